"""Verifies .evidence.zip: the answer to a question. Written from docs/FORMATS.md sections 17, 18 and 20 alone.

    verify_evidence.py FILE --policy POLICY     prints the verdicts; exits 0 verified, 3 proven wrong, 4 undecided
    verify_evidence.py --vectors DIRECTORY      compares with every line of DIRECTORY/index.json, whatever the kind
"""
import hashlib
import io
import json
import pathlib
import re
import sys
import zipfile

import blake3

import entry_keys
import protobuf
import verify_tlog_proof as base
from protobuf import NotCanonical, decode
from verify_receipt import PREFIX, verify_receipt
from verify_tlog_proof import BadPath, ContentTree, Entry, LogTree, Policy, Registry, Stop, Undecided, Wrong, derive, text

FORMAT = "proofline/evidence/v1"
NAMES = re.compile(r"manifest\.json|checkpoint|registrations\.binpb|consistency-proof|pages/\d{6}\.binpb|facts/(0|[1-9]\d{0,19})\.binpb"
                   r"|payloads\.binpb|payloads/(0|[1-9]\d{0,19})-[0-9a-f]{64}")


# Section 17.1 and 17.2

class ListTree(ContentTree):
    @staticmethod
    def leaf(index):
        return derive("proofline/v1 key entry", index.to_bytes(8, "big"))


def set_root(tree, size, leaves, path):
    """`leaves` are (position, hash), rising."""
    positions = [position for position, _ in leaves]
    if not leaves or positions != sorted(set(positions)) or positions[-1] >= size or any(len(one) != 32 for one in path):
        raise BadPath("positions")
    beside = iter(path)

    def root(low, count, listed):
        if not listed:
            try:
                return next(beside)
            except StopIteration as error:
                raise BadPath("too short") from error
        if count == 1:
            return listed[0][1]
        half = 1 << (count - 1).bit_length() - 1
        left = root(low, half, [one for one in listed if one[0] < low + half])
        return tree.node(left, root(low + half, count - half, [one for one in listed if one[0] >= low + half]))

    found = root(0, size, leaves)
    if next(beside, None) is not None:
        raise BadPath("too long")
    return found


def key_of(message):
    return (message["dimension"], message["tenant_id"], message["value"])


def key_hash(key):
    return derive("proofline/v1 map key", bytes([key[0]]) + text(key[1]) + text(key[2]))


def map_leaf(key, value):
    return derive("proofline/v1 map leaf", key + value)


def check_map(key, of, map_root):
    place, path = key_hash(key), of["map_path"]
    bit = lambda hash, depth: hash[depth // 8] >> (7 - depth % 8) & 1
    if of["count"]:
        parts = [of["root"]]
        folded = map_leaf(place, of["count"].to_bytes(8, "big") + of["root"])
        if of["other_key"] or of["other_value"]:
            raise BadPath("another key beside a present one")
    elif of["other_key"] or of["other_value"]:
        parts = [of["other_key"]]
        begins_alike = len(of["other_key"]) == 32 and all(bit(place, i) == bit(of["other_key"], i) for i in range(min(len(path), 256)))
        if of["root"] or of["other_key"] == place or not begins_alike or len(of["other_value"]) != 40:
            raise BadPath("no other key of that place")
        folded = map_leaf(of["other_key"], of["other_value"])
    else:
        parts, folded = [], bytes(32)
        if of["root"]:
            raise BadPath("an absent key with a root")
    if len(path) > 256 or any(len(one) != 32 for one in [*parts, *path]):
        raise BadPath("a length")
    for depth, beside in zip(range(len(path) - 1, -1, -1), path):
        pair = (beside, folded) if bit(place, depth) else (folded, beside)
        folded = derive("proofline/v1 map node", b"".join(pair))
    if folded != map_root:
        raise BadPath("another map")


# Section 18

def open_file(data):
    try:
        if data[-22:-18] != b"PK\x05\x06" or data[-2:] != b"\0\0":
            raise ValueError("no end")
        size, at = int.from_bytes(data[-10:-6], "little"), int.from_bytes(data[-6:-2], "little")
        if at + size + 22 != len(data):
            raise ValueError("bytes of nothing")
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(set(names)) != len(names) or not all(NAMES.fullmatch(name) for name in names) or infos[0].header_offset:
            raise ValueError("names")
        if sum(info.file_size for info in infos) > 1 << 32 or any(
                info.file_size > info.compress_size * 1032 + 64 or info.compress_type not in (0, 8) or info.flag_bits & ~0x0806
                for info in infos):
            raise ValueError("too large, or packed in another way")
        files = {name: archive.read(name) for name in names}
        manifest = json.loads(files.pop("manifest.json"))
        known = {"format", "origin", "exported_unix_ns", "asked", "tree_size", "commitment_size", "pages", "entries", "members"}
        pages = sorted(name for name in files if name.startswith("pages/"))
        if manifest["format"] != FORMAT or set(manifest) != known or pages != [f"pages/{i:06}.binpb" for i in range(len(pages))]:
            raise ValueError("manifest or pages")
        if not pages:
            raise ValueError("no page")
        note, registrations = files["checkpoint"], files["registrations.binpb"]
    except (ValueError, KeyError, IndexError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise Undecided("format", error) from error
    return files, manifest, [files[name] for name in pages], note, registrations


def decoded(schema, data):
    try:
        return decode(schema, data)
    except NotCanonical as error:
        raise Undecided("format", error) from error


def check_members(files, manifest):
    named = [(one["name"], one["sha256"], one["bytes"]) for one in manifest["members"]]
    found = [(name, hashlib.sha256(data).hexdigest(), str(len(data))) for name, data in sorted(files.items())]
    if named != found:
        raise Wrong("members", "others than the manifest names")


def check_registrations(data, checkpoint):
    of = decoded(protobuf.REGISTRATIONS, data)
    leaves = [(one["index"], LogTree.leaf(one["entry"])) for one in of["entries"]]
    try:
        if set_root(LogTree, checkpoint.size, leaves, of["log_path"]) != checkpoint.root:
            raise BadPath("another root")
    except BadPath as error:
        raise Wrong("registrations-inclusion", error) from error
    proven = [Entry("registrations-inclusion", one["entry"], one["index"]) for one in of["entries"]]
    if proven[0].index != 0 or proven[0].kind != "genesis":
        raise Undecided("genesis", "missing")
    genesis = proven[0].body
    if genesis["origin"] != checkpoint.origin or genesis["log_public_key"] != checkpoint.log_key.public:
        raise Wrong("genesis", "another origin or log key")
    registry = Registry(genesis)
    for entry in proven[1:]:
        registry.admit(entry)
    return registry, {entry.index: erased for entry in proven[1:] if (erased := erasure(entry))}


# Section 20

def erasure(entry):
    """Whom a proven command erased."""
    command = decode(protobuf.COMMAND, entry.body["command"])
    of = command["erase_subject"] if command["one_of"] == "erase_subject" else None
    return of and (of["tenant_id"], of["issuer"], of["subject"])


def subject_of(event, commitment):
    if commitment["key_ref"].startswith("subject:"):
        issuer, space, subject = commitment["key_ref"][8:].partition(" ")
        return (event["tenant_id"], issuer, subject) if space and subject else None
    initiator = (event["attribution"] or {}).get("initiator")
    return initiator and (event["tenant_id"], initiator["issuer"], initiator["subject"])


def check_payloads(files, found, erasures):
    listed = decoded(protobuf.PAYLOAD_LIST, files.get("payloads.binpb", b""))["payloads"]
    places = [(one["index"], one["digest"]) for one in listed]
    if any(one["one_of"] is None for one in listed) or any(a >= b for a, b in zip(places, places[1:])):
        raise Wrong("payloads", "not each once, in order")
    contents = {name: data for name, data in files.items() if name.startswith("payloads/")}
    for one in listed:
        event = found[one["index"]].event if one["index"] in found else None
        commitment = next((it for it in event["payloads"] if it["digest"] == one["digest"]), None) if event else None
        if commitment is None:
            raise Wrong("payloads", "nothing commits to it")
        if one["one_of"] == "salt":
            content = contents.pop(f"payloads/{one['index']}-{one['digest'].hex()}", None)
            if commitment["algorithm"] != 1:
                raise Undecided("payloads", "algorithm")
            if content is None or len(content) != commitment["size_bytes"] or len(one["salt"]) != 32:
                raise Wrong("payloads", "no content, another size, or no salt")
            if blake3.blake3(content, key=one["salt"]).digest() != one["digest"]:
                raise Wrong("payloads", "another content or salt")
        elif one["erased_by"] <= one["index"] or erasures.get(one["erased_by"], ()) != subject_of(event, commitment):
            raise Wrong("payloads", "not erased there")
    if contents:
        raise Wrong("payloads", "contents of which nothing is said")


# Section 17.6

class Answer:
    def __init__(self, checkpoint, note, registry, facts):
        self.checkpoint, self.note, self.registry, self.facts = checkpoint, note, registry, facts
        self.question = None
        self.pages, self.ended, self.found = 0, False, set()
        self.shown = {}
        self.lists, self.known, self.open = {}, {}, None
        self.sessions = {}

    def push(self, page):
        if self.ended or page["number"] != self.pages or page["checkpoint"] != self.note:
            raise Wrong("page-order", "number or checkpoint")
        first = self.question is None
        if first:
            self.begin(page)
        elif (page["question"], page["commitment_index"]) != (self.question, self.commitment_index):
            raise Wrong("page-order", "question or commitment")
        entries = self.include(page)
        self.commit(page, entries)
        bounds = self.check_window(entries) if first else set()
        listed = self.take(page, entries, bounds)
        if any(i not in listed | bounds and not (self.commitment_index and i == self.commitment_index) for i in entries):
            raise Wrong("page-entries", "an entry that nothing lists")
        self.check_batches(page, entries)
        for index in sorted(listed):
            self.check_entry(entries.get(index), index)
        self.found |= listed
        self.pages, self.ended = self.pages + 1, bool(page["last"])

    def begin(self, page):
        of = page["question"]
        if of is None:
            raise Undecided("question", "missing")
        starts = [key_of(key) for key in of["starts"]]
        if any(key[0] not in range(1, 12) or key[0] == 2 or not key[2] for key in starts) or of["direction"] > 3 or 2 in of["kinds"]:
            raise Undecided("question", "a key or direction of another version")
        if len(starts) > 64 or len(set(starts)) != len(starts) or of["depth"] > 32 or of["from_index"] > of["to_index"]:
            raise Wrong("question", "beyond the limits")
        self.question, self.commitment_index, self.next = of, page["commitment_index"], of["from_index"]
        self.walk = entry_keys.walk(of, self.lists, self.known)
        self.expected = next(self.walk, None)

    def include(self, page):
        leaves = [(one["index"], LogTree.leaf(one["entry"])) for one in page["entries"]]
        try:
            if (leaves or page["log_path"]) and set_root(LogTree, self.checkpoint.size, leaves, page["log_path"]) != self.checkpoint.root:
                raise BadPath("another root")
        except BadPath as error:
            raise Wrong("entries-inclusion", error) from error
        entries = {one["index"]: Entry("entries", one["entry"], one["index"]) for one in page["entries"]}
        times = [entry.core["committed_unix_ns"] for entry in entries.values()]
        if times != sorted(times):
            raise Wrong("entries", "time falls")
        return entries

    def commit(self, page, entries):
        self.size = None
        if self.commitment_index:
            entry = entries.get(self.commitment_index)
            if entry is None or entry.kind != "state_commitment" or entry.body["size"] > entry.index or len(entry.body["map_root"]) != 32:
                raise Wrong("commitment", "missing, or of another form")
            self.size, self.map_root = entry.body["size"], entry.body["map_root"]
        elif page["ranges"] or self.question["starts"]:
            raise Wrong("commitment", "keys or lists without one")
        self.limit = self.size if self.size is not None and self.question["starts"] else self.checkpoint.size
        if self.question["to_index"] > self.limit:
            raise Wrong("commitment", "the window reaches beyond it")

    def check_window(self, entries):
        of, low, high = self.question, self.question["from_index"], self.question["to_index"]
        if not of["from_unix_ns"] and not of["to_unix_ns"]:
            return set()
        bounds = {i for i in (low - 1, low, high - 1, high) if 0 <= i < self.checkpoint.size}
        if not bounds <= set(entries):
            raise Wrong("window-bounds", "an end is missing")
        time = lambda i: entries[i].core["committed_unix_ns"] if i in bounds else None
        wrong = False
        if of["from_unix_ns"]:
            wrong |= time(low - 1) is not None and time(low - 1) >= of["from_unix_ns"]
            wrong |= low < self.limit and time(low) is not None and time(low) < of["from_unix_ns"]
        if of["to_unix_ns"]:
            wrong |= high > low and time(high - 1) >= of["to_unix_ns"]
            wrong |= high < self.limit and time(high) is not None and time(high) < of["to_unix_ns"]
        if wrong:
            raise Wrong("window-bounds", "another window than the times mean")
        return bounds

    def in_window(self, indexes):
        return [i for i in indexes if self.question["from_index"] <= i < self.question["to_index"]]

    def take(self, page, entries, bounds):
        inside = self.in_window(entries)
        if not self.question["starts"]:
            return self.take_every(page, inside, bounds)
        for one in page["ranges"]:
            try:
                check_map(key_of(one["key"]), one, self.map_root)
            except BadPath as error:
                raise Wrong("keys-map", error) from error
        for one in page["ranges"]:
            self.check_list(one)
        if any(index in self.known for index in inside):
            raise Wrong("page-entries", "an entry stood on an earlier page")
        self.known.update((index, entry_keys.Keys(entries[index])) for index in inside)
        listed = set()
        for one in page["ranges"]:
            self.take_range(one, listed)
        if page["last"]:
            if self.open:
                raise Wrong("key-ranges", "the last list is cut")
            if self.expected:
                raise Wrong("walk", f"no list of {self.expected}")
        return listed

    def take_every(self, page, inside, bounds):
        if page["ranges"]:
            raise Wrong("walk", "a list that nothing asks for")
        listed = set()
        for index in inside:
            if index == self.next:
                listed.add(index)
                self.next += 1
            elif index not in bounds:
                raise Wrong("page-entries", "a gap")
        if page["last"] and self.next < self.question["to_index"]:
            if not (self.question["to_unix_ns"] or self.question["from_unix_ns"]) or self.next + 1 != self.question["to_index"]:
                raise Wrong("page-entries", "the window ends early")
            listed.add(self.next)
        return listed

    def check_list(self, of):
        if not of["count"]:
            if of["indexes"] or of["range_path"] or of["from"]:
                raise Wrong("key-ranges", "an absent key with a list")
            return
        indexes = of["indexes"]
        if not indexes or indexes != sorted(set(indexes)) or indexes[-1] >= self.size:
            raise Wrong("key-ranges", "the indexes")
        try:
            leaves = [(of["from"] + i, ListTree.leaf(index)) for i, index in enumerate(indexes)]
            if set_root(ListTree, of["count"], leaves, of["range_path"]) != of["root"]:
                raise BadPath("another root")
        except BadPath as error:
            raise Wrong("key-ranges", error) from error

    def take_range(self, of, listed):
        key, low, high = key_of(of["key"]), self.question["from_index"], self.question["to_index"]
        if self.open:
            if self.open[0] != key or of["from"] != self.open[1]:
                raise Wrong("key-ranges", "cut, or a gap")
        else:
            if key != self.expected:
                raise Wrong("walk", f"{key} instead of {self.expected}")
            if of["from"] and not (of["indexes"] and of["indexes"][0] < low):
                raise Wrong("key-ranges", "its beginning is missing")
            self.lists[key] = []
        if sum(index >= high for index in of["indexes"]) > 1:
            raise Wrong("key-ranges", "behind the window")
        for index in self.in_window(of["indexes"]):
            if index not in self.known:
                raise Wrong("page-entries", f"entry {index} is missing")
            if key not in self.known[index].carried:
                raise Wrong("keys-carried", f"entry {index} does not carry {key}")
            self.lists[key].append(index)
            listed.add(index)
        position = of["from"] + len(of["indexes"])
        if position >= of["count"] or (of["indexes"] and of["indexes"][-1] >= high):
            self.open, self.expected = None, next(self.walk, None)
        else:
            self.open = (key, position)

    def check_batches(self, page, entries):
        events = {}
        for entry in entries.values():
            if entry.kind == "event":
                at = entry.body["at"] or decode(protobuf.BATCH_POSITION, b"")
                events.setdefault(base.place(at), []).append((entry, at))
        if any(one["statement"] is None for one in page["statements"]):
            raise Wrong("statements", "a part without one")
        places = [base.place(one["statement"]) for one in page["statements"]]
        order = [(name.encode(), *rest) for name, *rest in places]
        if order != sorted(set(order)) or set(places) != set(events):
            raise Wrong("statements", "missing, unused or out of order")
        for one in page["statements"]:
            of = one["statement"]
            lengths = [len(of[field]) for field in ("public_key", "previous", "events_root")]
            message = base.batch_bytes(self.checkpoint.origin, of) if lengths == [32, 32, 32] else None
            if message is None or not base.is_signed(of["public_key"], message, of["signature"]):
                raise Wrong("batch-signatures", "forged")
        for one in page["statements"]:
            of, own = one["statement"], events[base.place(one["statement"])]
            if any(at["count"] != of["event_count"] or entry.index - at["offset"] != own[0][0].index - own[0][1]["offset"] for entry, at in own):
                raise Wrong("batch-inclusion", "another batch")
            leaves = [(at["offset"], ContentTree.leaf(entry.body["event"])) for entry, at in own]
            try:
                if set_root(ContentTree, of["event_count"], leaves, one["batch_path"]) != of["events_root"]:
                    raise BadPath("another root")
            except BadPath as error:
                raise Wrong("batch-inclusion", error) from error
        for one in page["statements"]:
            for entry, _ in events[base.place(one["statement"])]:
                self.check_collector(entry, one["statement"])

    def check_collector(self, entry, statement):
        change = self.registry.before(self.registry.collectors, statement["collector_id"], entry.index)
        if change is None:
            raise Undecided("collector-keys", "not registered in the file")
        if change[1] is None or change[1]["public_key"] != statement["public_key"]:
            raise Wrong("collector-keys", "revoked, or another key")
        agent = entry_keys.part(entry.event["attribution"], "agent", "agent_id")
        event, agents = entry.event, change[1]["agents"]
        in_scope = not agent or agent in agents or "*" in agents
        if event["tenant_id"] != change[1]["tenant_id"] or event["vantage"] not in change[1]["vantages"] or not in_scope:
            raise Wrong("collector-scope", "tenant, vantage or agent")

    def check_entry(self, entry, index):
        if entry is None:
            return
        self.shown[index] = entry
        if entry.kind == "command":
            self.registry.authorised(entry)
        if entry.session:
            self.sessions.setdefault(entry.place(), []).append(entry)
        facts = self.facts.pop(str(index), None) if entry.core["decision"] else None
        if facts is not None and derive("proofline/v1 facts", facts) != entry.core["decision"]["facts_digest"]:
            raise Wrong("facts", f"those of entry {index}")

    def check_sessions(self):
        """Of sessions that are here from their beginning, every root follows from the entries up to it."""
        for members in self.sessions.values():
            members.sort(key=lambda entry: entry.index)
            leaves = []
            for entry in members:
                if entry.session["position"] != len(leaves):
                    break
                leaves.append(ContentTree.leaf(entry.core_bytes))
                if base.mth(leaves) != entry.session_root:
                    raise Wrong("session-roots", f"at entry {entry.index}")

    def completeness(self):
        return "complete" if self.ended else "incomplete"


def verify_evidence(data, policy, held):
    files, manifest, pages, note, registrations = open_file(data)
    if held and held[1] is None:
        held = (held[0], files.get("consistency-proof"))
    checkpoint = base.trust(note, policy, held)
    check_members(files, manifest)
    if manifest["origin"] != checkpoint.origin:
        raise Wrong("origin", "another origin")
    registry, erasures = check_registrations(registrations, checkpoint)
    facts = {name[6:-6]: data for name, data in files.items() if name.startswith("facts/")}
    answer = Answer(checkpoint, note, registry, facts)
    for page in pages:
        answer.push(decoded(protobuf.LINEAGE_PAGE, page))
    if answer.facts:
        raise Wrong("facts", "of no decision in the answer")
    check_payloads(files, answer.shown, erasures)
    answer.check_sessions()
    counts = [checkpoint.size, answer.size or 0, answer.pages, len(answer.found)]
    if [manifest[name] for name in ("tree_size", "commitment_size", "pages", "entries")] != [str(count) for count in counts]:
        raise Wrong("manifest", "it counts otherwise")
    return answer.completeness()


def verify(data, policy, held=None, entry=None):
    """Returns the exit code, for refused files the check that decides, and the completeness of what is verified."""
    if not data.startswith((b"PK\x03\x04", PREFIX)):
        return base.verify(data, policy, held)
    try:
        if data.startswith(PREFIX):
            verify_receipt(data, entry, policy, held)
            return 0, None, "not_claimed"
        return 0, None, verify_evidence(data, policy, held)
    except Stop as stop:
        return stop.exit_code, stop.check, str(stop)


def check_completeness(directory):
    """The index names the completeness of valid evidence, too."""
    differences = 0
    for vector in json.loads((directory / "index.json").read_text())["vectors"]:
        if vector["file"].endswith(".evidence.zip") and "completeness" in vector:
            policy = Policy((directory / vector["policy"]).read_text())
            found = verify((directory / vector["file"]).read_bytes(), policy)[2]
            if found != vector["completeness"]:
                differences += 1
                print(f"{vector['file']}: {found}; the index says {vector['completeness']}")
    return differences


def main(arguments):
    match arguments:
        case ["--vectors", directory]:
            directory = pathlib.Path(directory)
            return base.run_vectors(directory, verify) or min(check_completeness(directory), 1)
        case [file, "--policy", policy]:
            exit_code, _, why = verify(pathlib.Path(file).read_bytes(), Policy(pathlib.Path(policy).read_text()))
            print(json.dumps(why))
            return exit_code
        case _:
            print(__doc__, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
