//! CBOR (RFC 8949), as far as receipts need it. Writing is deterministic (section 4.2.1); reading takes any form, so that
//! whoever reads writes again and compares.

/// Major types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Major {
    Unsigned,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
}

impl Major {
    fn bits(self) -> u8 {
        let number = match self {
            Self::Unsigned => 0,
            Self::Negative => 1,
            Self::Bytes => 2,
            Self::Text => 3,
            Self::Array => 4,
            Self::Map => 5,
            Self::Tag => 6,
        };
        number << 5
    }
}

const NULL: u8 = 0xF6;

/// Writes items one behind the other.
#[derive(Debug, Default)]
pub(crate) struct CborWriter {
    out: Vec<u8>,
}

impl CborWriter {
    /// Begins an item: its major type, and the number that goes with it in as few bytes as can be.
    pub(crate) fn head(mut self, major: Major, number: u64) -> Self {
        let bits = major.bits();
        if let Ok(number) = u8::try_from(number) {
            if number < 24 { self.out.push(bits | number) } else { self.out.extend([bits | 24, number]) }
        } else if let Ok(number) = u16::try_from(number) {
            self.out.push(bits | 25);
            self.out.extend(number.to_be_bytes());
        } else if let Ok(number) = u32::try_from(number) {
            self.out.push(bits | 26);
            self.out.extend(number.to_be_bytes());
        } else {
            self.out.push(bits | 27);
            self.out.extend(number.to_be_bytes());
        }
        self
    }

    pub(crate) fn integer(self, value: i64) -> Self {
        let major = if value < 0 { Major::Negative } else { Major::Unsigned };
        self.head(major, if value < 0 { value.unsigned_abs() - 1 } else { value.unsigned_abs() })
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        self.head(Major::Bytes, value.len() as u64).raw(value)
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.head(Major::Text, value.len() as u64).raw(value.as_bytes())
    }

    pub(crate) fn null(self) -> Self {
        self.raw(&[NULL])
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }
}

/// Reads items of definite length one behind the other; `None` for anything else than what was asked for.
#[derive(Debug)]
pub(crate) struct CborReader<'a> {
    rest: &'a [u8],
}

impl<'a> CborReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Takes the head of an item of this type, and returns its number.
    pub(crate) fn head(&mut self, major: Major) -> Option<u64> {
        let (bits, number) = self.any_head()?;
        (bits == major.bits()).then_some(number)
    }

    /// Takes a head with exactly this number.
    pub(crate) fn expect(&mut self, major: Major, number: u64) -> Option<()> {
        (self.head(major)? == number).then_some(())
    }

    pub(crate) fn integer(&mut self) -> Option<i64> {
        let (bits, number) = self.any_head()?;
        let number = i64::try_from(number).ok()?;
        match bits {
            0x00 => Some(number),
            0x20 => Some(-1 - number),
            _ => None,
        }
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.head(Major::Bytes)?;
        self.take(usize::try_from(length).ok()?)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length = self.head(Major::Text)?;
        std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()
    }

    pub(crate) fn null(&mut self) -> Option<()> {
        (self.take(1)? == [NULL]).then_some(())
    }

    /// Nothing may stand behind the last item.
    pub(crate) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    fn any_head(&mut self) -> Option<(u8, u64)> {
        let [first] = *self.take(1)? else { return None };
        let number = match first & 0x1F {
            small @ 0..24 => u64::from(small),
            24 => u64::from(*self.take(1)?.first()?),
            25 => u64::from(u16::from_be_bytes(self.take(2)?.try_into().ok()?)),
            26 => u64::from(u32::from_be_bytes(self.take(4)?.try_into().ok()?)),
            27 => u64::from_be_bytes(self.take(8)?.try_into().ok()?),
            _ => return None,
        };
        Some((first & 0xE0, number))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_fewest_bytes_and_come_back() {
        for (value, bytes) in
            [(0, 1), (23, 1), (24, 2), (255, 2), (256, 3), (65_536, 5), (1 << 32, 9), (-1, 1), (-24, 1), (-25, 2), (i64::MIN, 9)]
        {
            let written = CborWriter::default().integer(value).finish();
            assert_eq!(written.len(), bytes, "{value}");
            assert_eq!(CborReader::new(&written).integer(), Some(value));
        }
    }

    #[test]
    fn lengths_beyond_the_input_are_refused() {
        assert_eq!(CborReader::new(&[0x5B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).bytes(), None);
        assert_eq!(CborReader::new(&[0x42, 0x00]).bytes(), None);
        assert_eq!(CborReader::new(&[0x5F, 0x41, 0x00, 0xFF]).bytes(), None, "indefinite");
        assert_eq!(CborReader::new(&[]).null(), None);
    }
}
