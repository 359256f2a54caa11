"""Tokens by which a job's container proves which attempt it is. Derived, so nothing is stored."""

import base64
import hashlib
import hmac
import re

TOKEN = re.compile(r"cir_job_([0-9a-f]{16})-([1-9]\d{0,5})_[A-Za-z0-9_-]{43}", re.ASCII)


class Tokens:
    """`secret`: the coordinator's own; whoever has it can make any token."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"cirrus job token\0" + secret).digest()

    def token(self, job: str, attempt: int) -> str:
        name = f"{job}-{attempt}"
        mac = hmac.digest(self._secret, name.encode(), "sha256")
        return f"cir_job_{name}_{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    def attempt_of(self, token: str) -> tuple[str, int] | None:
        """The job and attempt that it belongs to; None for a token that is not ours."""
        found = TOKEN.fullmatch(token)
        if not found:
            return None
        job, attempt = found[1], int(found[2])
        genuine = hmac.compare_digest(token.encode(), self.token(job, attempt).encode())
        return (job, attempt) if genuine else None
