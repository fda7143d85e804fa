"""Which keys an entry carries, and where an event leads. Written from docs/FORMATS.md sections 17.3 and 17.5 alone."""
import protobuf
from protobuf import NotCanonical, decode

SESSION, PARENT_SESSION, AGENT, PRINCIPAL, RESOURCE, TOOL, SERVER, SYSTEM, CREDENTIAL, COLLECTOR, RULE = range(1, 12)
NOWHERE, UP, DOWN, BOTH = range(4)
TARGETS = {1: SESSION, 2: AGENT, 3: AGENT, 4: CREDENTIAL, 5: SERVER}


def part(of, *names):
    """Follows sub-messages that may be missing; the default of what is asked for is the empty text."""
    for name in names:
        if of is None:
            return ""
        of = of[name]
    return "" if of is None else of


def principal(of):
    if not part(of, "subject"):
        return ""
    return f"{of['issuer']} {of['subject']}" if of["issuer"] else of["subject"]


def joined(before, name):
    return f"{before}/{name}" if before else name


class Keys:
    """Keys are (dimension, tenant, value)."""

    def __init__(self, entry):
        self.carried, self.up, self.down, self.own = set(), set(), set(), None
        if entry.session:
            self.add(SESSION, entry.session["tenant_id"], entry.session["session_id"])
        body, kind = entry.body, entry.kind
        if kind in ("event", "rejection", "lane_closed"):
            self.add(COLLECTOR, "", part(body["at"], "collector_id"))
        elif kind == "lane_opened":
            self.add(COLLECTOR, "", part(body["request"], "collector_id"))
        elif kind == "equivocation":
            self.add(COLLECTOR, "", part(body["second"], "collector_id"))
        elif kind == "containment":
            for target in body["targets"]:
                self.target(target)
        elif kind == "command":
            self.command(body)
        if kind == "event":
            self.event(entry)

    def add(self, dimension, tenant, value):
        if value:
            self.carried.add((dimension, tenant, value))
        return {(dimension, tenant, value)} if value else set()

    def target(self, of):
        if of and of["kind"] in TARGETS:
            name = of["id"].split("/")[0] if of["kind"] == 3 else of["id"]
            self.add(TARGETS[of["kind"]], of["tenant_id"], name)

    def command(self, signed):
        try:
            command = decode(protobuf.COMMAND, signed["command"])
        except NotCanonical:
            return
        action = command["one_of"]
        of = command[action] if action else None
        if action in ("register_collector", "revoke_collector"):
            self.add(COLLECTOR, "", of["collector_id"])
        elif action in ("register_agent", "revoke_agent", "change_agent_state"):
            self.add(AGENT, of["tenant_id"], of["agent_id"])
        elif action == "register_server":
            self.add(SERVER, of["tenant_id"], of["server_id"])
        elif action in ("resolve_approval", "withdraw_approval"):
            self.add(SESSION, of["tenant_id"], of["session_id"])
        elif action == "pin_tool":
            self.tool(of["tenant_id"], of["server_id"], of["tool_name"])
        elif action in ("contain", "place_hold"):
            self.target(of["target"])

    def event(self, entry):
        event = entry.event
        tenant = event["tenant_id"]
        session = part(event["session"], "session_id")
        parent = part(event["session"], "parent_session_id")
        self.add(SESSION, tenant, session)
        self.own = (SESSION, tenant, session) if session else None
        self.add(PARENT_SESSION, tenant, parent)
        if parent:
            self.up.add((SESSION, tenant, parent))
        by = event["attribution"]
        if by:
            self.up |= self.add(AGENT, tenant, part(by["agent"], "agent_id"))
            self.up |= self.add(CREDENTIAL, tenant, part(by["credential"], "credential_id"))
            hops = [end for hop in by["delegation"] for end in (hop["from"], hop["to"])]
            for one in [by["initiator"], *hops]:
                self.up |= self.add(PRINCIPAL, tenant, principal(one))
        for finding in (entry.core["decision"] or {"findings": []})["findings"]:
            self.add(RULE, tenant, finding["rule_id"])
        self.body(tenant, event["one_of"], event[event["one_of"]] if event["one_of"] else None)
        self.down |= {key for key in self.carried if key[0] in (TOOL, SERVER, RESOURCE, SYSTEM)}

    def resource(self, tenant, of):
        if of:
            self.add(RESOURCE, tenant, of["uri"])
            self.add(SYSTEM, tenant, of["system"])

    def tool(self, tenant, server, name):
        if name:
            self.add(TOOL, tenant, joined(server, name))
        self.add(SERVER, tenant, server)

    def body(self, tenant, kind, of):
        if kind == "action_intent":
            if of["tool"]:
                self.tool(tenant, of["tool"]["server_id"], of["tool"]["name"])
            for one in of["resources"]:
                self.resource(tenant, one)
        elif kind == "action_outcome":
            for one in of["accesses"]:
                self.resource(tenant, one["resource"])
        elif kind == "data_access":
            self.resource(tenant, of["resource"])
        elif kind == "mcp_connected":
            self.add(SERVER, tenant, of["server_id"])
        elif kind == "tool_defined":
            self.tool(tenant, of["server_id"], of["name"])
        elif kind == "sub_agent_spawned":
            self.add(AGENT, tenant, of["child_agent_id"])
            self.down |= self.add(SESSION, tenant, of["child_session_id"])
            self.down |= self.add(CREDENTIAL, tenant, part(of["child_credential"], "credential_id"))
        elif kind == "handed_off":
            self.add(PRINCIPAL, tenant, principal(of["to"]))
            self.down |= self.add(SESSION, tenant, of["to_session_id"])
        elif kind == "credential_issued":
            self.down |= self.add(CREDENTIAL, tenant, part(of["credential"], "credential_id"))
        elif kind == "credential_used":
            self.add(CREDENTIAL, tenant, part(of["credential"], "credential_id"))
            self.resource(tenant, of["target"])
        elif kind == "credential_revoked":
            self.add(CREDENTIAL, tenant, of["credential_id"])
        elif kind == "approval_requested":
            self.add(PRINCIPAL, tenant, principal(of["requester"]))
        elif kind == "approval_resolved":
            self.add(PRINCIPAL, tenant, principal(of["approver"]))
        elif kind == "identity_linked":
            self.add(PRINCIPAL, tenant, principal(of["principal"]))
            self.add(PRINCIPAL, tenant, principal(of["linked"]))
        elif kind == "memory_access":
            if of["record_id"]:
                self.add(RESOURCE, tenant, "memory:" + joined(of["store_id"], of["record_id"]))
            self.add(SYSTEM, tenant, of["store_id"])


def leads(dimension, way):
    if way == UP:
        return dimension in (SESSION, CREDENTIAL, RESOURCE, TOOL, SERVER, SYSTEM, COLLECTOR, RULE)
    return way == DOWN and dimension in (SESSION, CREDENTIAL, PRINCIPAL, AGENT, COLLECTOR, RULE)


def next_nodes(keys, node, way, list_dimension):
    """Where an entry of a list of a state leads, in order."""
    own = {keys.own} if keys.own else set()
    if not leads(node[0], way):
        found = set()
    elif node[0] != SESSION or list_dimension == PARENT_SESSION:
        found = own
    elif way == UP:
        found = keys.up if keys.own == node else own
    else:
        found = keys.down if keys.own == node else set()
    return sorted(found)


def walk(question, lists, known):
    """Yields the lists that a question leads to. `lists` gives the entries of a list once it was yielded, `known` their keys."""
    ways = [UP, DOWN] if question["direction"] == BOTH else [question["direction"]]
    starts = [(key["dimension"], key["tenant_id"], key["value"]) for key in question["starts"]]
    states = [(start, way, 0) for start in starts for way in ways]
    reached, given, at = {(start, way) for start, way, _ in states}, set(), 0
    while at < len(states):
        node, way, distance = states[at]
        at += 1
        if distance and (distance >= question["depth"] or not leads(node[0], way)):
            continue
        own = [node] + ([(PARENT_SESSION, *node[1:])] if node[0] == SESSION and way == DOWN else [])
        for one in own:
            if one not in given:
                given.add(one)
                yield one
            for index in lists[one]:
                for key in next_nodes(known[index], node, way, one[0]):
                    if distance >= question["depth"] or (question["kinds"] and key[0] not in question["kinds"]):
                        continue
                    both = question["direction"] == BOTH and way == UP and key[0] == SESSION
                    for direction in [way, DOWN] if both else [way]:
                        if (key, direction) not in reached:
                            reached.add((key, direction))
                            states.append((key, direction, distance + 1))
