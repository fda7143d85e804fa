"""Checks a security event token with PyJWT, or a webhook by Standard Webhooks with `cryptography`.

The question is a JSON object on standard input. For a token: kind "set", keys (a JWK set), token, algorithm, audience.
For a webhook: kind "webhook", keys, key_id, headers (lower-case names), body. What is not in order ends the program.
"""

import base64
import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_S = 300


def security_event(question):
    header = jwt.get_unverified_header(question["token"])
    key = jwt.PyJWKSet.from_dict(question["keys"])[header["kid"]]
    # A security event has neither a subject of the old form nor an end (RFC 8417 and SSF 1.0).
    claims = jwt.decode(
        question["token"], key=key, algorithms=[question["algorithm"]], audience=question["audience"],
        options={"require": ["iss", "iat", "jti", "aud"]})
    assert header["typ"] == "secevent+jwt", header
    assert "sub" not in claims and "exp" not in claims, claims
    assert len(claims["events"]) == 1, claims
    if question["algorithm"] == "RS256":
        assert key.key.key_size >= 2048, key.key.key_size
    return {"header": header, "claims": claims}


def webhook(question):
    headers, body = question["headers"], question["body"]
    assert abs(time.time() - int(headers["webhook-timestamp"])) < TOLERANCE_S, headers
    [jwk] = [key for key in question["keys"]["keys"] if key["kid"] == question["key_id"]]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "=="))
    signed = ".".join([headers["webhook-id"], headers["webhook-timestamp"], body]).encode()
    version, signature = headers["webhook-signature"].split(",")
    assert version == "v1a", version
    public.verify(base64.b64decode(signature), signed)
    return json.loads(body)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump({"set": security_event, "webhook": webhook}[asked["kind"]](asked), sys.stdout)
