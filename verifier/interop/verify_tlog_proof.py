"""Verifies Proofline evidence: .tlog-proof, .session-proof and .session-evidence. Written from docs/FORMATS.md alone.

    verify_tlog_proof.py FILE --policy POLICY     prints the verdict; exits 0 verified, 3 proven wrong, 4 undecided
    verify_tlog_proof.py --vectors DIRECTORY      compares with every line of DIRECTORY/index.json
"""
import base64
import binascii
import hashlib
import json
import pathlib
import re
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import protobuf
from protobuf import NotCanonical, decode

FORMAT = "proofline/session-evidence/v1"
REGISTRAR, RESPONDER = 1, 2
RESPONDERS = (
    "seal_session", "contain", "release", "resolve_approval", "withdraw_approval", "open_incident", "advance_incident",
    "place_hold", "release_hold")
TWO_PERSONS = (
    "register_operator", "revoke_operator", "register_node", "retire_node", "release", "register_outlet", "remove_outlet",
    "activate_rules", "release_hold", "erase_subject", "set_retention")


class Stop(Exception):
    """A check did not pass."""

    exit_code = None

    def __init__(self, check, why):
        super().__init__(f"{check}: {why}")
        self.check = check


class Wrong(Stop):
    exit_code = 3


class Undecided(Stop):
    exit_code = 4


# Sections 2 and 3: hashes and trees

def derive(context, data):
    return blake3(data, derive_key_context=context).digest()


class LogTree:
    @staticmethod
    def leaf(data):
        return hashlib.sha256(b"\x00" + data).digest()

    @staticmethod
    def node(left, right):
        return hashlib.sha256(b"\x01" + left + right).digest()

    empty = hashlib.sha256(b"").digest()


class ContentTree:
    @staticmethod
    def leaf(data):
        return derive("proofline/v1 tree leaf", data)

    @staticmethod
    def node(left, right):
        return derive("proofline/v1 tree node", left + right)


class BadPath(Exception):
    """A path does not fit its index and size, or leads elsewhere."""


def fold(tree, leaf, index, size, path):
    """Returns the root, and the root at the leaf."""
    if index >= size:
        raise BadPath("index beyond size")
    if any(len(sibling) != 32 for sibling in path):
        raise BadPath("a hash is not 32 bytes")
    fn, sn, whole, at_leaf = index, size - 1, leaf, leaf
    for sibling in path:
        if sn == 0:
            raise BadPath("too long")
        if fn & 1 or fn == sn:
            whole, at_leaf = tree.node(sibling, whole), tree.node(sibling, at_leaf)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            whole = tree.node(whole, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise BadPath("too short")
    return whole, at_leaf


def check_consistency(older, older_root, newer, newer_root, path):
    if older > newer:
        raise BadPath("sizes reversed")
    if older == 0 or older == newer:
        if path or older_root != (LogTree.empty if older == 0 else newer_root):
            raise BadPath("not the same tree")
        return
    if older & (older - 1) == 0:
        path = [older_root, *path]
    if not path:
        raise BadPath("empty")
    fn, sn = older - 1, newer - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise BadPath("too long")
        if fn & 1 or fn == sn:
            fr, sr = LogTree.node(sibling, fr), LogTree.node(sibling, sr)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = LogTree.node(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or fr != older_root or sr != newer_root:
        raise BadPath("leads elsewhere")


def mth(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return ContentTree.node(mth(leaves[:split]), mth(leaves[split:]))


# Section 1: strict Ed25519

P = 2**255 - 19
SMALL_ORDER_Y = {0, 1, P - 1} | {
    int.from_bytes(bytes.fromhex(y), "little") for y in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")}


def is_strong_point(encoded):
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return len(encoded) == 32 and y < P and y not in SMALL_ORDER_Y


def is_signed(public_key, message, signature):
    if not is_strong_point(public_key) or len(signature) != 64 or not is_strong_point(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


# Sections 7 and 8: notes, checkpoints, policies

def decode_base64(text):
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None


def decimal(text):
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,19}", text) and int(text) < 1 << 64 else None


def is_key_name(name):
    return 0 < len(name.encode()) < 256 and not any(c.isspace() or c == "+" or ord(c) < 32 or 127 <= ord(c) < 160 for c in name)


class Key:
    def __init__(self, vkey, kind):
        self.name, identity, encoded = vkey.split("+", 2)
        blob = decode_base64(encoded)
        assert blob and blob[0] == kind and len(blob) == 33 and is_strong_point(blob[1:]) and is_key_name(self.name)
        self.public = blob[1:]
        self.id = hashlib.sha256(self.name.encode() + b"\n" + blob).digest()[:4]
        assert self.id.hex() == identity


class Policy:
    """Trusts its file to be well-formed as far as it is not used."""

    def __init__(self, text):
        assert text.endswith("\n")
        self.logs, self.witnesses, self.groups, self.quorum = [], {}, [], None
        for line in text.splitlines():
            match line.split():
                case []:
                    pass
                case [first, *_] if first.startswith("#"):
                    pass
                case ["log", vkey, *_]:
                    self.logs.append(Key(vkey, 1))
                case ["witness", name, vkey, *_]:
                    self.witnesses[name] = Key(vkey, 4)
                case ["group", name, threshold, *members]:
                    needed = {"any": 1, "all": len(members)}.get(threshold) or decimal(threshold)
                    self.groups.append((name, needed, members))
                case ["quorum", name]:
                    self.quorum = name
                case _:
                    raise ValueError(line)
        assert self.quorum

    def is_met(self, cosigned):
        met = set(cosigned)
        for name, needed, members in self.groups:
            if sum(member in met for member in members) >= needed:
                met.add(name)
        return self.quorum == "none" or self.quorum in met


class Checkpoint:
    """A checkpoint that the policy vouches for."""

    def __init__(self, note, policy):
        try:
            self.parse(note.decode("utf-8"))
        except (ValueError, UnicodeDecodeError) as error:
            raise Undecided("log-signature", f"no checkpoint: {error}") from error
        self.log_key = self.check_log(policy)
        self.check_quorum(policy)

    def parse(self, note):
        if len(note.encode()) > 256 * 1024 or re.search("[\x00-\x09\x0b-\x1f]", note):
            raise ValueError("not plain text")
        text, separator, block = note.rpartition("\n\n")
        if not text or not separator or not block.endswith("\n"):
            raise ValueError("no note")
        self.text, self.lines = text + "\n", {}
        for line in block[:-1].split("\n"):
            found = re.fullmatch("\u2014 ([^ ]+) ([^ ]+)", line)
            blob = decode_base64(found[2]) if found else None
            if blob is None or len(blob) < 5 or not is_key_name(found[1]) or (found[1], blob[:4]) in self.lines:
                raise ValueError("signature line")
            self.lines[found[1], blob[:4]] = blob[4:]
        if len(self.lines) > 64:
            raise ValueError("too many signatures")
        self.origin, size, root = text.split("\n")
        self.size, self.root = decimal(size), decode_base64(root)
        if not is_key_name(self.origin) or self.size is None or self.root is None or len(self.root) != 32:
            raise ValueError("checkpoint text")

    def check_log(self, policy):
        keys = [key for key in policy.logs if key.name == self.origin]
        if not keys:
            raise Undecided("log-signature", "unknown origin")
        signed_by = None
        for key in keys:
            signature = self.lines.get((key.name, key.id))
            if signature is not None:
                if not is_signed(key.public, self.text.encode(), signature):
                    raise Wrong("log-signature", "forged")
                signed_by = key
        if signed_by is None:
            kind = Undecided if any(name == self.origin for name, _ in self.lines) else Wrong
            raise kind("log-signature", "not signed by the policy's log key")
        return signed_by

    def check_quorum(self, policy):
        cosigned = []
        for name, key in policy.witnesses.items():
            blob = self.lines.get((key.name, key.id))
            if blob is None:
                continue
            time = int.from_bytes(blob[:8], "big")
            message = f"cosignature/v1\ntime {time}\n{self.text}".encode()
            if len(blob) != 72 or time >= 1 << 63 or not is_signed(key.public, message, blob[8:]):
                raise Wrong("quorum", f"forged: {name}")
            cosigned.append(name)
        if not policy.is_met(cosigned):
            known = {(key.name, key.id) for key in [*policy.logs, *policy.witnesses.values()]}
            unknown = [line for line in self.lines if line not in known and line[0] != self.origin]
            raise (Undecided if unknown else Wrong)("quorum", f"cosigned by {cosigned}")

    def include(self, check, entry, index, path):
        try:
            root, _ = fold(LogTree, LogTree.leaf(entry), index, self.size, path)
        except BadPath as error:
            raise Wrong(check, error) from error
        if root != self.root:
            raise Wrong(check, "another root")


def trust(note, policy, held):
    checkpoint = Checkpoint(note, policy)
    if held:
        compare(checkpoint, policy, *held)
    return checkpoint


def compare(checkpoint, policy, note, proof):
    try:
        other = Checkpoint(note, policy)
    except Stop as stop:
        raise type(stop)("consistency", stop) from stop
    if other.origin != checkpoint.origin:
        raise Undecided("consistency", "another origin")
    older, newer = sorted((other, checkpoint), key=lambda it: it.size)
    path = []
    if older.size != newer.size:
        lines = proof.decode().split("\n") if proof else []
        if lines[:3] != ["proofline/consistency-proof/v1", f"old {older.size}", f"new {newer.size}"]:
            raise Undecided("consistency", "no proof between these sizes")
        path = [decode_base64(line) for line in lines[3:-1]]
    try:
        check_consistency(older.size, older.root, newer.size, newer.root, path)
    except BadPath as error:
        raise Wrong("consistency", error) from error


# Section 6: entries

class Entry:
    def __init__(self, check, data, index=None):
        try:
            if len(data) > 65535:
                raise NotCanonical("too long")
            entry = decode(protobuf.ENTRY, data)
            self.core_bytes, self.session_root = entry["core"], entry["session_root"]
            self.core = decode(protobuf.ENTRY_CORE, self.core_bytes)
            self.kind = self.core["one_of"]
            if self.kind is None:
                raise NotCanonical("no body")
            self.body = self.core[self.kind]
            self.event = decode(protobuf.EVENT, self.body["event"]) if self.kind == "event" else None
        except NotCanonical as error:
            raise Undecided(check, error) from error
        self.index, self.session = self.core["index"], self.core["session"]
        if index is not None and self.index != index:
            raise Wrong(check, "names another index")
        if (self.session is None) != (self.session_root == b"") or len(self.session_root) not in (0, 32):
            raise Wrong(check, "session and session root do not go together")

    def place(self):
        return self.session and (self.session["tenant_id"], self.session["session_id"])


# Section 9

def verify_tlog_proof(data, policy, held):
    try:
        text = data.decode("utf-8")
        head, separator, note = text.partition("\n\n")
        version, *lines = head.split("\n")
        extra = lines.pop(0) if lines[0].startswith("extra ") else None
        index = decimal(lines.pop(0).removeprefix("index "))
        entry = decode_base64(extra.removeprefix("extra "))
        path = [decode_base64(line) for line in lines]
        if version != "c2sp.org/tlog-proof@v1" or not head.split("\n")[2].startswith("index ") or not separator:
            raise ValueError("form")
        if index is None or not entry or any(hash is None or len(hash) != 32 for hash in path):
            raise ValueError("a line is malformed")
    except (ValueError, IndexError, AttributeError) as error:
        raise Undecided("format", error) from error
    checkpoint = trust(note.encode(), policy, held)
    checkpoint.include("log-inclusion", entry, index, path)
    Entry("entries", entry, index)


def decode_file(schema, data):
    try:
        decoded = decode(schema, data)
    except NotCanonical as error:
        raise Undecided("format", error) from error
    if decoded["last"] is None:
        raise Undecided("format", "no last entry")
    return decoded


def verify_session_proof(data, policy, held):
    proof = decode_file(protobuf.SESSION_PROOF, data)
    checkpoint = trust(proof["checkpoint"], policy, held)
    last = proof["last"]
    checkpoint.include("last-inclusion", last["entry"], last["index"], last["log_path"])
    entry, last = Entry("entries", proof["entry"]), Entry("entries", last["entry"], last["index"])
    if entry.place() is None or entry.place() != last.place():
        raise Wrong("session-identity", "two sessions")
    position, last_position = entry.session["position"], last.session["position"]
    order = (position > last_position) - (position < last_position), (entry.index > last.index) - (entry.index < last.index)
    if proof["position"] != position or proof["session_size"] != last_position + 1 or order[0] > 0 or order[0] != order[1]:
        raise Wrong("session-order", "positions and indexes do not fit")
    try:
        whole, at_leaf = fold(ContentTree, ContentTree.leaf(entry.core_bytes), position, proof["session_size"], proof["session_path"])
    except BadPath as error:
        raise Wrong("session-inclusion", error) from error
    if whole != last.session_root:
        raise Wrong("session-inclusion", "another root")
    if at_leaf != entry.session_root:
        raise Wrong("session-roots", "another root at the entry")


# Section 10

def text(value):
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def batch_bytes(origin, of):
    return b"".join((
        text("proofline/batch/v1"), text(origin), of["public_key"], text(of["collector_id"]), of["lane"].to_bytes(4, "big"),
        of["epoch"].to_bytes(8, "big"), of["sequence"].to_bytes(8, "big"), of["previous"], of["event_count"].to_bytes(4, "big"),
        of["events_root"]))


def command_bytes(of):
    return b"".join((
        text("proofline/command/v1"), text(of["origin"]), of["nonce"], of["expires_unix_ns"].to_bytes(8, "big"),
        len(of["command"]).to_bytes(4, "big"), of["command"]))


class Registry:
    """Who was registered for what, by name: a list of (index, registration or None)."""

    CHECK = "command-signatures"

    def __init__(self, genesis):
        self.origin = genesis["origin"]
        self.operators = {it["operator_id"]: [(0, it)] for it in genesis["operators"]}
        self.collectors = {}

    def before(self, names, name, index):
        changes = [change for change in names.get(name, []) if change[0] < index]
        return changes[-1] if changes else None

    def admit(self, entry):
        action, content = self.authorised(entry)
        if action == "register_collector":
            self.collectors.setdefault(content["collector_id"], []).append((entry.index, content))
        elif action == "revoke_collector":
            self.collectors.setdefault(content["collector_id"], []).append((entry.index, None))
        elif action == "register_operator" and content["operator"]:
            self.operators.setdefault(content["operator"]["operator_id"], []).append((entry.index, content["operator"]))
        elif action == "revoke_operator":
            self.operators.setdefault(content["operator_id"], []).append((entry.index, None))

    def authorised(self, entry):
        if entry.kind != "command":
            raise Wrong(self.CHECK, "no command")
        signed = entry.body
        if signed["origin"] != self.origin or signed["expires_unix_ns"] <= entry.core["committed_unix_ns"]:
            raise Wrong(self.CHECK, "another origin, or expired")
        try:
            command = decode(protobuf.COMMAND, signed["command"])
        except NotCanonical as error:
            raise Undecided(self.CHECK, error) from error
        action = command["one_of"]
        if action is None:
            raise Undecided(self.CHECK, "no action")
        role = RESPONDER if action in RESPONDERS else REGISTRAR
        needed = 2 if action in TWO_PERSONS else 1
        for signature in signed["signatures"]:
            self.check_signer(entry.index, signature, role)
            if len(signed["nonce"]) != 16 or not is_signed(signature["public_key"], command_bytes(signed), signature["signature"]):
                raise Wrong(self.CHECK, "forged")
        if len({signature["public_key"] for signature in signed["signatures"]}) < needed:
            raise Wrong(self.CHECK, "too few signers")
        return action, command[action]

    def check_signer(self, index, signature, role):
        change = self.before(self.operators, signature["operator_id"], index)
        if change is None:
            raise Undecided(self.CHECK, f"unknown operator {signature['operator_id']}")
        operator = change[1]
        if operator is None or operator["public_key"] != signature["public_key"] or role not in operator["roles"]:
            raise Wrong(self.CHECK, "revoked, another key, or another role")


def verify_session_evidence(data, policy, held):
    file = decode_file(protobuf.SESSION_EVIDENCE, data)
    if file["format"] != FORMAT:
        raise Undecided("format", "unknown version")
    checkpoint = trust(file["checkpoint"], policy, held)
    if file["origin"] != checkpoint.origin:
        raise Wrong("origin", "another origin")
    last = file["last"]
    checkpoint.include("last-inclusion", last["entry"], last["index"], last["log_path"])
    members = check_members(file, last)
    registry = check_registrations(file, checkpoint, members)
    events = check_statements(file, members)
    check_batches(file, events)
    check_collectors(file, events, registry)


def check_members(file, last):
    members = [Entry("entries", member["entry"]) for member in file["members"]]
    if not members or file["members"][-1]["entry"] != last["entry"] or members[-1].index != last["index"]:
        raise Wrong("entries", "the last member is not the last entry")
    if any(member.place() != (file["tenant_id"], file["session_id"]) for member in members):
        raise Wrong("session-identity", "another session")
    previous, sealed = None, False
    for position, member in enumerate(members):
        if member.session["position"] != position or sealed:
            raise Wrong("session-order", "a gap, or behind the seal")
        if previous and (previous.index >= member.index or previous.core["committed_unix_ns"] > member.core["committed_unix_ns"]):
            raise Wrong("session-order", "index or time falls")
        if member.kind == "containment" and not is_of_session(member, file):
            raise Wrong("session-order", "a containment of something else")
        if member.kind not in ("event", "containment"):
            sealed = is_seal(member, file)
            if not sealed:
                raise Wrong("session-order", "neither event, containment nor seal")
        previous = member
    leaves = [ContentTree.leaf(member.core_bytes) for member in members]
    for count, member in enumerate(members, 1):
        if mth(leaves[:count]) != member.session_root:
            raise Wrong("session-roots", f"at position {count - 1}")
    return members


def is_of_session(member, file):
    target = (member.body["targets"] or [None])[0]
    return target is not None and (target["kind"], target["tenant_id"], target["id"]) == (1, file["tenant_id"], file["session_id"])


def is_seal(member, file):
    if member.kind != "command":
        return False
    try:
        seal = decode(protobuf.COMMAND, member.body["command"])["seal_session"]
    except NotCanonical:
        return False
    return seal is not None and (seal["tenant_id"], seal["session_id"]) == (file["tenant_id"], file["session_id"])


def check_registrations(file, checkpoint, members):
    check, proven = "registrations-inclusion", []
    for one in file["registrations"]:
        checkpoint.include(check, one["entry"], one["index"], one["log_path"])
        if proven and proven[-1].index >= one["index"]:
            raise Wrong(check, "out of order")
        proven.append(Entry(check, one["entry"], one["index"]))
    if not proven or proven[0].index != 0 or proven[0].kind != "genesis":
        raise Undecided("genesis", "missing")
    genesis = proven[0].body
    if genesis["origin"] != checkpoint.origin or genesis["log_public_key"] != checkpoint.log_key.public:
        raise Wrong("genesis", "another origin or log key")
    registry = Registry(genesis)
    for entry in proven[1:]:
        registry.admit(entry)
    for member in members:
        if member.kind == "command":
            registry.authorised(member)
    return registry


def check_statements(file, members):
    events, statements = [], file["statements"]
    for entry, proof in zip(members, file["members"]):
        if entry.kind != "event":
            if proof["statement"] or proof["batch_path"]:
                raise Wrong("statements", "a seal with a batch proof")
        elif proof["statement"] >= len(statements):
            raise Wrong("statements", "no such statement")
        else:
            events.append((entry, statements[proof["statement"]], proof))
    used = {proof["statement"] for _, _, proof in events}
    places = {place(statement) for statement in statements}
    if len(used) != len(statements) or len(places) != len(statements):
        raise Wrong("statements", "unused or repeated")
    return events


def place(of):
    return of["collector_id"], of["lane"], of["epoch"], of["sequence"]


def check_batches(file, events):
    for statement in file["statements"]:
        lengths = [len(statement[field]) for field in ("public_key", "previous", "events_root")]
        if lengths != [32, 32, 32] or not is_signed(statement["public_key"], batch_bytes(file["origin"], statement), statement["signature"]):
            raise Wrong("batch-signatures", "forged")
    first = {}
    for entry, statement, proof in events:
        at = entry.body["at"] or decode(protobuf.BATCH_POSITION, b"")
        if place(at) != place(statement) or at["count"] != statement["event_count"]:
            raise Wrong("batch-inclusion", "another batch")
        try:
            root, _ = fold(ContentTree, ContentTree.leaf(entry.body["event"]), at["offset"], at["count"], proof["batch_path"])
        except BadPath as error:
            raise Wrong("batch-inclusion", error) from error
        begins = entry.index - at["offset"]
        if root != statement["events_root"] or begins < 0 or first.setdefault(place(statement), begins) != begins:
            raise Wrong("batch-inclusion", "another root, or out of order")


def check_collectors(file, events, registry):
    registered = []
    for entry, statement, _ in events:
        change = registry.before(registry.collectors, statement["collector_id"], entry.index)
        if change is None:
            raise Undecided("collector-keys", "not registered in the file")
        if change[1] is None or change[1]["public_key"] != statement["public_key"]:
            raise Wrong("collector-keys", "revoked, or another key")
        registered.append((entry.event, change[1]))
    agent_of_session = ""
    for event, registration in registered:
        agent = (event["attribution"] or {}).get("agent")
        agent = agent["agent_id"] if agent else ""
        agent_of_session = agent_of_session or agent
        agent = agent or agent_of_session
        in_scope = agent in registration["agents"] or "*" in registration["agents"]
        if event["tenant_id"] != registration["tenant_id"] or event["vantage"] not in registration["vantages"] or not in_scope:
            raise Wrong("collector-scope", "tenant, vantage or agent")
    for event, _ in registered:
        session = event["session"] and event["session"]["session_id"]
        if (event["tenant_id"], session) != (file["tenant_id"], file["session_id"]):
            raise Wrong("event-session", "another session")


# Section 11

def verify(data, policy, held=None, entry=None):
    """Returns the exit code and, for refused files, the check that decides."""
    try:
        if data.startswith(b"c2sp.org/tlog-proof@"):
            verify_tlog_proof(data, policy, held)
        elif data[:1] == b"\x0a" and data[2:].startswith(b"proofline/session-evidence/"):
            verify_session_evidence(data, policy, held)
        elif data[:1] == b"\x0a":
            verify_session_proof(data, policy, held)
        else:
            raise Undecided("format", "no known form")
    except Stop as stop:
        return stop.exit_code, stop.check, str(stop)
    return 0, None, "verified"


def run_vectors(directory, verify=verify):
    differences, index = 0, json.loads((directory / "index.json").read_text())
    read = lambda name: (directory / name).read_bytes() if name else None
    for vector in index["vectors"]:
        policy = Policy(read(vector["policy"]).decode())
        held = (read(vector["consistent_with"]), read(vector.get("consistency_proof"))) if "consistent_with" in vector else None
        exit_code, check, why = verify(read(vector["file"]), policy, held, read(vector.get("entry")))
        if (exit_code, check) != (vector["exit_code"], vector.get("failing_check")):
            differences += 1
            print(f"{vector['file']}: {exit_code} {why}; the index says {vector['exit_code']} {vector.get('failing_check')}")
    print(f"{len(index['vectors'])} vectors, {differences} differences")
    return 1 if differences or not index["vectors"] else 0


def main(arguments):
    match arguments:
        case ["--vectors", directory]:
            return run_vectors(pathlib.Path(directory))
        case [file, "--policy", policy]:
            exit_code, _, why = verify(pathlib.Path(file).read_bytes(), Policy(pathlib.Path(policy).read_text()))
            print(json.dumps(why))
            return exit_code
        case _:
            print(__doc__, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
