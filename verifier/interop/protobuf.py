"""A minimal protobuf reader for the messages of docs/FORMATS.md section 6, which refuses what is not canonical (section 5)."""


class NotCanonical(Exception):
    """The bytes are not the one encoding of a known message."""


U, F64, S, B, M = "varint", "fixed64", "string", "bytes", "message"


def message(**fields):
    """Describes a message: name=(number, kind[, sub-message][, 'repeated'])."""
    return {number: (name, kind, rest) for name, (number, kind, *rest) in fields.items()}


BATCH_POSITION = message(
    collector_id=(1, S), lane=(2, U), epoch=(3, U), sequence=(4, U), offset=(5, U), count=(6, U))
BATCH_STATEMENT = message(
    public_key=(1, B), collector_id=(2, S), lane=(3, U), epoch=(4, U), sequence=(5, U), previous=(6, B),
    event_count=(7, U), events_root=(8, B), signature=(9, B))
OPERATOR_KEY = message(operator_id=(1, S), public_key=(2, B), roles=(3, U, "packed"), subject=(4, S))
NODE_KEY = message(node_id=(1, U), name=(2, S), public_key=(3, B))
ROLE_GRANT = message(spiffe_id=(1, S), role=(2, U), tenant_id=(3, S))
DEPLOYMENT = message(repository=(1, S), revision=(2, S), image_digest=(3, S), pipeline_run=(4, S))
GENESIS = message(
    origin=(1, S), apply_version=(2, U), log_public_key=(3, B), operators=(4, M, OPERATOR_KEY, "repeated"),
    nodes=(5, M, NODE_KEY, "repeated"), grants=(6, M, ROLE_GRANT, "repeated"))
SIGNED_COMMAND = message(
    origin=(1, S), nonce=(2, B), expires_unix_ns=(3, F64), command=(4, B),
    signatures=(5, M, message(operator_id=(1, S), public_key=(2, B), signature=(3, B)), "repeated"))
TARGET = message(kind=(1, U), tenant_id=(2, S), id=(3, S))
OUTLET = message(
    outlet_id=(1, S), tenant_id=(2, S),
    shared_signals=(3, M, message(
        issuer=(1, S), audience=(2, S), endpoint=(3, S), algorithm=(4, U), key_id=(5, S), subject_form=(6, U),
        authorization=(7, U)), "one of"),
    webhook=(4, M, message(endpoint=(1, S), key_id=(2, S)), "one of"),
    escalate_to=(5, S), escalate_after_s=(6, U), escalations_only=(7, U))
COMMAND = message(
    register_collector=(1, M, message(
        collector_id=(1, S), public_key=(2, B), spiffe_id=(3, S), tenant_id=(4, S), agents=(5, S, "repeated"),
        vantages=(6, U, "packed"), events_per_hour=(7, U), sessions_per_hour=(8, U)), "one of"),
    revoke_collector=(2, M, message(collector_id=(1, S), reason=(2, S)), "one of"),
    register_agent=(3, M, message(
        tenant_id=(1, S), agent_id=(2, S), name=(3, S), business_owner=(4, S), technical_owner=(5, S),
        revocation_paths=(6, S, "repeated"), deployment=(7, M, DEPLOYMENT)), "one of"),
    revoke_agent=(4, M, message(tenant_id=(1, S), agent_id=(2, S), reason=(3, S)), "one of"),
    register_operator=(5, M, message(operator=(1, M, OPERATOR_KEY)), "one of"),
    revoke_operator=(6, M, message(operator_id=(1, S), reason=(2, S)), "one of"),
    grant_role=(7, M, message(grant=(1, M, ROLE_GRANT)), "one of"),
    revoke_role=(8, M, message(grant=(1, M, ROLE_GRANT)), "one of"),
    register_node=(9, M, message(node=(1, M, NODE_KEY)), "one of"),
    retire_node=(10, M, message(node_id=(1, U), reason=(2, S)), "one of"),
    seal_session=(11, M, message(tenant_id=(1, S), session_id=(2, S), reason=(3, S)), "one of"),
    contain=(12, M, message(target=(1, M, TARGET), action=(2, U), reason=(3, S), incident_id=(4, S)), "one of"),
    release=(13, M, message(containment_id=(1, U), reason=(2, S), incident_id=(3, S)), "one of"),
    register_outlet=(14, M, message(outlet=(1, M, OUTLET)), "one of"),
    remove_outlet=(15, M, message(outlet_id=(1, S), reason=(2, S)), "one of"),
    resume_outlet=(16, M, message(outlet_id=(1, S), reason=(2, S)), "one of"),
    activate_rules=(20, M, message(
        rules=(1, S), engine=(2, S), simulation_digest=(3, B), denies_everything=(4, U), reason=(5, S)), "one of"),
    declare_purpose=(21, M, message(
        tenant_id=(1, S), purpose_id=(2, S), allowed_tools=(3, S, "repeated"), allowed_resources=(4, S, "repeated"),
        classification_max=(5, U), regions=(6, S, "repeated"), expires_unix_ns=(7, F64), description=(8, S)), "one of"),
    resolve_approval=(22, M, message(
        tenant_id=(1, S), session_id=(2, S), intent_index=(3, U), action_digest=(4, B), verdict=(5, U), expires_unix_ns=(6, F64),
        reason=(7, S)), "one of"),
    register_server=(30, M, message(
        tenant_id=(1, S), server_id=(2, S), name=(3, S), business_owner=(4, S), technical_owner=(5, S), approved=(6, U)), "one of"),
    change_agent_state=(31, M, message(tenant_id=(1, S), agent_id=(2, S), state=(3, U), reason=(4, S)), "one of"),
    open_incident=(32, M, message(tenant_id=(1, S), incident_id=(2, S), title=(3, S), severity=(4, U)), "one of"),
    advance_incident=(33, M, message(tenant_id=(1, S), incident_id=(2, S), stage=(3, U), cause=(4, U), note=(5, S)), "one of"),
    place_hold=(34, M, message(target=(1, M, TARGET), matter=(2, S), authority=(3, S)), "one of"),
    release_hold=(35, M, message(hold_id=(1, U), reason=(2, S)), "one of"))
ENTRY = message(core=(1, B), session_root=(2, B))
ENTRY_CORE = message(
    index=(1, U), committed_unix_ns=(2, F64),
    session=(3, M, message(tenant_id=(1, S), session_id=(2, S), position=(3, U))),
    decision=(4, M, message(
        verdict=(1, U), findings=(2, M, message(rule_id=(1, S), severity=(2, U), kind=(3, U), containment_id=(4, U)), "repeated"),
        facts_digest=(3, B), rule_set_digest=(4, B), action_digest=(5, B))),
    event=(10, M, message(at=(1, M, BATCH_POSITION), event=(2, B)), "one of"),
    genesis=(11, M, GENESIS, "one of"),
    command=(12, M, SIGNED_COMMAND, "one of"),
    rejection=(13, M, message(at=(1, M, BATCH_POSITION), event_leaf=(2, B), event_bytes=(3, U), reason=(4, U)), "one of"),
    equivocation=(14, M, message(second=(1, M, BATCH_STATEMENT), first_digest=(2, B)), "one of"),
    lane_opened=(15, M, message(
        request=(1, M, message(public_key=(1, B), collector_id=(2, S), lane=(3, U), nonce=(4, B), signature=(5, B))),
        epoch=(2, U)), "one of"),
    lane_closed=(16, M, message(at=(1, M, BATCH_POSITION)), "one of"),
    containment=(17, M, message(
        change=(1, U), containment_id=(2, U), action=(3, U), targets=(4, M, TARGET, "repeated"), cause_index=(5, U), reason=(6, S),
        incident_id=(7, S), incomplete=(8, U)), "one of"),
    outlet_delivery=(18, M, message(
        outlet_id=(1, S), containment_id=(2, U), entry_index=(3, U), ordinal=(4, U), jti=(5, S), result=(6, U), http_status=(7, U),
        error=(8, S), attempts=(9, U), first_attempt_unix_ns=(10, F64), answered_unix_ns=(11, F64), node_id=(12, U),
        public_key=(13, B), signature=(14, B)), "one of"))
PROVEN_ENTRY = message(index=(1, U), entry=(2, B), log_path=(3, B, "repeated"))
SESSION_PROOF = message(
    checkpoint=(1, B), position=(2, U), session_size=(3, U), entry=(4, B), session_path=(5, B, "repeated"),
    last=(6, M, PROVEN_ENTRY))
SESSION_EVIDENCE = message(
    format=(1, S), origin=(2, S), tenant_id=(3, S), session_id=(4, S), checkpoint=(5, B),
    members=(6, M, message(entry=(1, B), statement=(2, U), batch_path=(3, B, "repeated")), "repeated"),
    statements=(7, M, BATCH_STATEMENT, "repeated"), last=(8, M, PROVEN_ENTRY),
    registrations=(9, M, PROVEN_ENTRY, "repeated"))

# Of an event only what a verifier compares; `None` as a sub-message leaves its content unread, and so its form unchecked.
SESSION_REF = message(session_id=(1, S), parent_session_id=(2, S), parent_event_id=(3, B), task_id=(4, S), aliases=(5, M, None, "repeated"))
AGENT = message(
    agent_id=(1, S), instance_id=(2, S), name=(3, S), version=(4, S), framework=(5, S), spiffe_id=(6, S),
    model_provider=(7, S), model_name=(8, S), charter_sha256=(9, B), deployment=(10, M, DEPLOYMENT))
ATTRIBUTION = message(
    initiator=(1, M, None), agent=(2, M, AGENT), delegation=(3, M, None, "repeated"), credential=(4, M, None),
    purpose_id=(5, S), unattributed=(6, U))
EVENT = message(
    event_id=(1, B), tenant_id=(2, S), observed_unix_ns=(3, F64), vantage=(4, U), session=(5, M, SESSION_REF),
    attribution=(6, M, ATTRIBUTION), correlation=(7, M, None), payloads=(8, M, None, "repeated"),
    **{f"body_{number}": (number, M, None, "one of") for number in [*range(20, 40), 41, 42, 43]})

DEFAULTS = {U: 0, F64: 0, S: "", B: b"", M: None}


def decode(schema, data):
    """Returns the fields by name, defaults filled in. Raises NotCanonical."""
    fields = {name: [] if is_list(rest) else DEFAULTS[kind] for name, kind, rest in schema.values()}
    at, highest, one_of = 0, 0, None
    while at < len(data):
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number not in schema:
            raise NotCanonical(f"unknown field {number}")
        name, kind, rest = schema[number]
        repeats = "repeated" in rest
        if number < highest or (number == highest and not repeats):
            raise NotCanonical(f"field {number} is out of order or written twice")
        highest = number
        if wire != wire_type(kind, rest):
            raise NotCanonical(f"field {number} has wire type {wire}")
        value, at = read(kind, rest, data, at)
        if repeats:
            fields[name].append(value)
            continue
        if kind != M and (value == DEFAULTS[kind] or value == []):
            raise NotCanonical(f"field {number} is written though it is the default")
        if "one of" in rest:
            if one_of is not None:
                raise NotCanonical("two members of one choice")
            one_of = name
        fields[name] = value
    fields["one_of"] = one_of
    return fields


def is_list(rest):
    return "repeated" in rest or "packed" in rest


def wire_type(kind, rest):
    if "packed" in rest:
        return 2
    return {U: 0, F64: 1, S: 2, B: 2, M: 2}[kind]


def read(kind, rest, data, at):
    if kind == F64:
        if at + 8 > len(data):
            raise NotCanonical("truncated")
        return int.from_bytes(data[at:at + 8], "little"), at + 8
    if kind == U and "packed" not in rest:
        return varint(data, at)
    length, at = varint(data, at)
    if at + length > len(data):
        raise NotCanonical("truncated")
    content, at = data[at:at + length], at + length
    if "packed" in rest:
        numbers, inner = [], 0
        while inner < len(content):
            number, inner = varint(content, inner)
            numbers.append(number)
        return numbers, at
    if kind == S:
        try:
            return content.decode("utf-8"), at
        except UnicodeDecodeError as error:
            raise NotCanonical("not UTF-8") from error
    if kind == M:
        return (content if rest[0] is None else decode(rest[0], content)), at
    return content, at


def varint(data, at):
    value, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise NotCanonical("truncated or overlong number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if (byte == 0 and shift > 7) or value >= 1 << 64:
                raise NotCanonical("a number is not in its shortest form")
            return value, at
