"""Verifies .cose-receipt (RFC 9942). Written from docs/FORMATS.md section 9.3 alone, over a CBOR library that is not ours."""
from types import SimpleNamespace

import cbor2

import verify_tlog_proof as base
from verify_tlog_proof import BadPath, Entry, LogTree, Undecided, Wrong

PREFIX = b"\xd2\x84"


def strict(data):
    """One item in its deterministic encoding, with nothing behind it."""
    item = cbor2.loads(data)
    if cbor2.dumps(item, canonical=True) != data:
        raise ValueError("not deterministic")
    return item


def is_number(value):
    return type(value) is int and 0 <= value < 1 << 64


def parse(data):
    try:
        tag = strict(data)
        protected, unprotected, payload, signature = tag.value
        header = strict(protected)
        claims = header[15]
        [proof] = unprotected[396][-1]
        size, index, path = strict(proof)
        subject = base.decimal(claims[2])
        well_formed = (
            len(data) <= 4096 and tag.tag == 18 and payload is None and len(signature) == 64
            and list(header) == [1, 4, 15, 395] and list(claims) == [1, 2] and list(unprotected) == [396] and list(unprotected[396]) == [-1]
            and header[1] in (-19, -8) and header[395] == 1 and type(header[4]) is bytes and len(header[4]) == 4
            and base.is_key_name(claims[1]) and subject is not None and is_number(size) and is_number(index)
            and 1 <= len(path) <= 64 and all(type(one) is bytes and len(one) == 32 for one in path)
        )
        if not well_formed:
            raise ValueError("not the items of this format")
    except (cbor2.CBORError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Undecided("format", error) from error
    return SimpleNamespace(protected=protected, key_id=header[4], origin=claims[1], subject=subject, size=size, index=index, path=path, signature=signature)


def verify_receipt(data, entry, policy, held):
    receipt = parse(data)
    if entry is None:
        raise Undecided("format", "a receipt does not hold its entry")
    if receipt.subject != receipt.index:
        raise Wrong("log-inclusion", "another subject")
    try:
        receipt.root, _ = base.fold(LogTree, LogTree.leaf(entry), receipt.index, receipt.size, receipt.path)
    except BadPath as error:
        raise Wrong("log-inclusion", error) from error
    keys = [key for key in policy.logs if key.name == receipt.origin and key.id == receipt.key_id]
    if not keys:
        raise Undecided("log-signature", "a key that the policy lacks")
    message = cbor2.dumps(["Signature1", receipt.protected, b"", receipt.root], canonical=True)
    if not base.is_signed(keys[0].public, message, receipt.signature):
        raise Wrong("log-signature", "forged")
    if held:
        base.compare(receipt, policy, *held)
    Entry("entries", entry, receipt.index)
