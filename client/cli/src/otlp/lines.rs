//! The lines of a file or of standard input, read on a thread of their own: a pause in the input holds up nothing else.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    thread,
};

use anyhow::{Context as _, Result, bail};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Lines that are read ahead. They may be long.
const AHEAD: usize = 2;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Lines to come. The thread ends with the input, or with the first line that nobody takes any more.
pub(crate) struct Lines {
    lines: mpsc::Receiver<Result<Vec<u8>>>,
}

impl Lines {
    /// Begins to read `path`, or standard input for `-`; gzip is recognised by its first bytes.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (sender, lines) = mpsc::channel(AHEAD);
        let path = path.to_owned();
        // Not a task of the runtime: the end of the program does not wait for a read that may never return.
        thread::Builder::new().name("input".to_owned()).spawn(move || read(&path, &sender))?;
        Ok(Self { lines })
    }

    /// Returns the next line, or `None` at the end. Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.lines.recv().await.transpose()
    }
}

fn read(path: &Path, lines: &mpsc::Sender<Result<Vec<u8>>>) {
    let each = open(path).and_then(|mut input| {
        while let Some(line) = read_line(&mut input)? {
            if lines.blocking_send(Ok(line)).is_err() {
                break;
            }
        }
        Ok(())
    });
    if let Err(error) = each {
        // Nobody takes lines any more: nobody misses the error.
        let _ = lines.blocking_send(Err(error));
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = match path {
        path if path == Path::new("-") => Box::new(io::stdin()),
        path => Box::new(File::open(path).with_context(|| path.display().to_string())?),
    };
    let mut raw = BufReader::new(raw);
    let is_gzip = raw.fill_buf()?.starts_with(&GZIP_MAGIC);
    Ok(if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(raw))) } else { Box::new(raw) })
}

fn read_line(lines: &mut dyn BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(last) if *last != b'\n' && line.len() as u64 == LINE_BYTES_MAX => bail!("a line is longer than {LINE_BYTES_MAX} bytes"),
        Some(_) => Ok(Some(line)),
    }
}
