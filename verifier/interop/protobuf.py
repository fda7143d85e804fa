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
        vantages=(6, U, "packed"), events_per_hour=(7, U), sessions_per_hour=(8, U), payload_bytes_per_hour=(9, U)), "one of"),
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
    verify_outlet=(17, M, message(outlet_id=(1, S), state=(2, S), reason=(3, S)), "one of"),
    activate_rules=(20, M, message(
        rules=(1, S), engine=(2, S), simulation_digest=(3, B), denies_everything=(4, U), reason=(5, S)), "one of"),
    declare_purpose=(21, M, message(
        tenant_id=(1, S), purpose_id=(2, S), allowed_tools=(3, S, "repeated"), allowed_resources=(4, S, "repeated"),
        classification_max=(5, U), regions=(6, S, "repeated"), expires_unix_ns=(7, F64), description=(8, S)), "one of"),
    resolve_approval=(22, M, message(
        tenant_id=(1, S), session_id=(2, S), intent_index=(3, U), action_digest=(4, B), verdict=(5, U), expires_unix_ns=(6, F64),
        reason=(7, S)), "one of"),
    withdraw_approval=(23, M, message(
        tenant_id=(1, S), session_id=(2, S), intent_index=(3, U), action_digest=(4, B), reason=(5, S)), "one of"),
    pin_tool=(24, M, message(
        tenant_id=(1, S), server_id=(2, S), tool_name=(3, S), definition_sha256=(4, B), beside_others=(5, U), reason=(6, S)), "one of"),
    register_server=(30, M, message(
        tenant_id=(1, S), server_id=(2, S), name=(3, S), business_owner=(4, S), technical_owner=(5, S), approved=(6, U)), "one of"),
    change_agent_state=(31, M, message(tenant_id=(1, S), agent_id=(2, S), state=(3, U), reason=(4, S)), "one of"),
    open_incident=(32, M, message(tenant_id=(1, S), incident_id=(2, S), title=(3, S), severity=(4, U)), "one of"),
    advance_incident=(33, M, message(tenant_id=(1, S), incident_id=(2, S), stage=(3, U), cause=(4, U), note=(5, S)), "one of"),
    place_hold=(34, M, message(target=(1, M, TARGET), matter=(2, S), authority=(3, S)), "one of"),
    release_hold=(35, M, message(hold_id=(1, U), reason=(2, S)), "one of"),
    erase_subject=(50, M, message(tenant_id=(1, S), issuer=(2, S), subject=(3, S), ground=(4, S)), "one of"),
    set_retention=(51, M, message(tenant_id=(1, S), days=(2, U), reason=(3, S)), "one of"))
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
        public_key=(13, B), signature=(14, B)), "one of"),
    state_commitment=(19, M, message(size=(1, U), map_root=(2, B), state_digest=(3, B)), "one of"),
    access_recorded=(20, M, message(
        kind=(1, U), reader=(2, S), question=(3, B), purpose=(4, S), node_id=(5, U), public_key=(6, B), signature=(7, B)), "one of"),
    erasure_deferred=(30, M, message(command=(1, M, SIGNED_COMMAND), hold_id=(2, U)), "one of"))
PROVEN_ENTRY = message(index=(1, U), entry=(2, B), log_path=(3, B, "repeated"))
SESSION_PROOF = message(
    checkpoint=(1, B), position=(2, U), session_size=(3, U), entry=(4, B), session_path=(5, B, "repeated"),
    last=(6, M, PROVEN_ENTRY))
SESSION_EVIDENCE = message(
    format=(1, S), origin=(2, S), tenant_id=(3, S), session_id=(4, S), checkpoint=(5, B),
    members=(6, M, message(entry=(1, B), statement=(2, U), batch_path=(3, B, "repeated")), "repeated"),
    statements=(7, M, BATCH_STATEMENT, "repeated"), last=(8, M, PROVEN_ENTRY),
    registrations=(9, M, PROVEN_ENTRY, "repeated"))

# Section 6.4
PRINCIPAL = message(kind=(1, U), issuer=(2, S), subject=(3, S), display_ref=(4, S))
CREDENTIAL = message(
    credential_id=(1, S), kind=(2, U), issuer=(3, S), audience=(4, S), scopes=(5, S, "repeated"), not_before_unix_ns=(6, F64),
    not_after_unix_ns=(7, F64), confirmation_sha256=(8, B), transaction=(9, S))
SESSION_REF = message(
    session_id=(1, S), parent_session_id=(2, S), parent_event_id=(3, B), task_id=(4, S),
    aliases=(5, M, message(kind=(1, U), value=(2, S)), "repeated"))
AGENT = message(
    agent_id=(1, S), instance_id=(2, S), name=(3, S), version=(4, S), framework=(5, S), spiffe_id=(6, S),
    model_provider=(7, S), model_name=(8, S), charter_sha256=(9, B), deployment=(10, M, DEPLOYMENT))
HOP = message(
    **{"from": (1, M, PRINCIPAL)}, to=(2, M, PRINCIPAL), kind=(3, U), proof=(4, U), evidence_event_id=(5, B), scopes=(6, S, "repeated"),
    at_unix_ns=(7, F64))
ATTRIBUTION = message(
    initiator=(1, M, PRINCIPAL), agent=(2, M, AGENT), delegation=(3, M, HOP, "repeated"), credential=(4, M, CREDENTIAL),
    purpose_id=(5, S), unattributed=(6, U))
CORRELATION = message(
    trace_id=(1, B), span_id=(2, B), parent_span_id=(3, B), semconv_version=(4, S), protocol=(5, S), protocol_version=(6, S),
    logical_call_id=(7, S), request_id=(8, S))
PAYLOAD = message(
    name=(1, S), algorithm=(2, U), digest=(3, B), size_bytes=(4, U), media_type=(5, S), key_ref=(6, S), location=(7, S))
HINTS = message(read_only=(1, U), destructive=(2, U), idempotent=(3, U), open_world=(4, U))
TOOL = message(
    server_id=(1, S), name=(2, S), call_id=(3, S), type=(4, S), definition_sha256=(5, B), declared_hints=(6, M, HINTS), tier=(7, U))
RESOURCE = message(
    uri=(1, S), system=(2, S), kind=(3, U), environment=(4, U), classification=(5, U), tags=(6, S, "repeated"), region=(7, S))
DATA_ACCESS = message(
    resource=(1, M, RESOURCE), verb=(2, U), records=(3, U), size_bytes=(4, U), document_ids=(5, S, "repeated"), status=(6, U))
EVENT = message(
    event_id=(1, B), tenant_id=(2, S), observed_unix_ns=(3, F64), vantage=(4, U), session=(5, M, SESSION_REF),
    attribution=(6, M, ATTRIBUTION), correlation=(7, M, CORRELATION), payloads=(8, M, PAYLOAD, "repeated"),
    run_started=(20, M, message(workflow=(1, S), operation=(2, S)), "one of"),
    run_ended=(21, M, message(status=(1, U), error_type=(2, S), duration_ms=(3, U)), "one of"),
    intent_declared=(22, M, message(summary_ref=(1, S), template=(2, S), declared_purpose=(3, S)), "one of"),
    model_call=(23, M, message(
        provider=(1, S), request_model=(2, S), response_model=(3, S), response_id=(4, S), finish_reasons=(5, S, "repeated"),
        input_tokens=(6, U), output_tokens=(7, U), status=(8, U), error_type=(9, S), duration_ms=(10, U), operation=(11, S)), "one of"),
    action_intent=(24, M, message(
        verb=(1, U), tool=(2, M, TOOL), resources=(3, M, RESOURCE, "repeated"), declared_purpose=(4, S), action_digest=(5, B),
        requested_records=(6, U), egress=(7, U), amount_minor=(8, U)), "one of"),
    action_outcome=(25, M, message(
        intent_event_id=(1, B), status=(2, U), error_type=(3, S), records=(4, U), bytes_in=(5, U), bytes_out=(6, U),
        duration_ms=(7, U), accesses=(8, M, DATA_ACCESS, "repeated"), amount_minor=(9, U)), "one of"),
    data_access=(26, M, DATA_ACCESS, "one of"),
    mcp_connected=(27, M, message(
        server_id=(1, S), name=(2, S), version=(3, S), protocol_version=(4, S), transport=(5, S), capabilities=(6, S, "repeated")),
        "one of"),
    sub_agent_spawned=(28, M, message(
        child_session_id=(1, S), child_agent_id=(2, S), inherited_scopes=(3, S, "repeated"), child_credential=(4, M, CREDENTIAL)),
        "one of"),
    handed_off=(29, M, message(
        to=(1, M, PRINCIPAL), to_session_id=(2, S), channel=(3, S), task_id=(4, S), task_state=(5, S)), "one of"),
    credential_issued=(30, M, message(credential=(1, M, CREDENTIAL), task_id=(2, S)), "one of"),
    credential_used=(31, M, message(credential=(1, M, CREDENTIAL), target=(2, M, RESOURCE)), "one of"),
    credential_revoked=(32, M, message(credential_id=(1, S), reason=(2, S)), "one of"),
    policy_decision=(33, M, message(
        engine=(1, S), policy_id=(2, S), verdict=(3, U), intent_event_id=(4, B), reason=(5, S)), "one of"),
    approval_requested=(34, M, message(
        action_digest=(1, B), intent_event_id=(2, B), requester=(3, M, PRINCIPAL), expires_unix_ns=(4, F64)), "one of"),
    approval_resolved=(35, M, message(action_digest=(1, B), approver=(2, M, PRINCIPAL), verdict=(3, U), reason=(4, S)), "one of"),
    step_up_cleared=(36, M, message(acr=(1, S), amr=(2, S, "repeated"), authenticated_unix_ns=(3, F64)), "one of"),
    memory_access=(37, M, message(store_id=(1, S), record_id=(2, S), verb=(3, U), records=(4, U)), "one of"),
    tool_defined=(38, M, message(server_id=(1, S), name=(2, S), definition_sha256=(3, B), declared_hints=(4, M, HINTS)), "one of"),
    agent_seen=(39, M, message(description=(1, S)), "one of"),
    identity_linked=(41, M, message(
        principal=(1, M, PRINCIPAL), linked=(2, M, PRINCIPAL), not_before_unix_ns=(3, F64), not_after_unix_ns=(4, F64)), "one of"),
    heartbeat=(42, M, message(events_since_last=(1, U), dropped_since_last=(2, U)), "one of"),
    annotation=(43, M, message(key=(1, S), value=(2, S)), "one of"))

# Section 17.6 and 18
KEY = message(dimension=(1, U), tenant_id=(2, S), value=(3, S))
INDEXED_ENTRY = message(index=(1, U), entry=(2, B))
QUESTION = message(
    starts=(1, M, KEY, "repeated"), direction=(2, U), depth=(3, U), kinds=(4, U, "packed"), from_index=(5, U), to_index=(6, U),
    from_unix_ns=(7, F64), to_unix_ns=(8, F64))
LINEAGE_PAGE = message(
    number=(1, U), last=(2, U), question=(3, M, QUESTION), checkpoint=(4, B), commitment_index=(5, U),
    ranges=(6, M, message(
        key=(1, M, KEY), count=(2, U), root=(3, B), map_path=(4, B, "repeated"), other_key=(5, B), other_value=(6, B),
        **{"from": (7, U)}, indexes=(8, U, "packed"), range_path=(9, B, "repeated")), "repeated"),
    entries=(7, M, INDEXED_ENTRY, "repeated"), log_path=(8, B, "repeated"),
    statements=(9, M, message(statement=(1, M, BATCH_STATEMENT), batch_path=(2, B, "repeated")), "repeated"))
PAYLOAD_LIST = message(payloads=(1, M, message(
    index=(1, U), digest=(2, B), salt=(3, B, "one of"), erased_by=(4, U, "one of")), "repeated"))
REGISTRATIONS = message(entries=(1, M, INDEXED_ENTRY, "repeated"), log_path=(2, B, "repeated"))

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
        return decode(rest[0], content), at
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
