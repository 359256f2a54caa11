"""Every error that Cirrus raises, as one tree; each carries the facts that its message names.

CirrusError
├── Refused                 a request that is wrong, or is not possible now; becomes a 4xx answer
│   ├── BadDocument         422 a definition that cannot be understood
│   ├── NotFound            404 what was asked for is not there
│   ├── Conflict            409 it contradicts what is already recorded
│   └── TooLarge            413 it exceeds a published limit
├── Defect                  500 a fault of Cirrus itself; its log has the details
├── StoreBroken             the disk or the file cannot be trusted: the process ends
├── StorageFull             507 the disk has no room; nothing was written
├── Unavailable             503 it cannot be answered now; trying again may help
├── SetupError              the machine or the configuration; one line says how to mend it
├── WireError               a message that cannot be understood, or is too large to be sent
└── EngineError             what an executor's engine said
    ├── EngineAway          it does not answer; time may heal it
    └── StartRefused        it will never start this attempt
"""


class CirrusError(Exception):
    """The root. `code` is for programs and never changes; the message is for people."""

    code = "error"


class Refused(CirrusError):
    """A request that Cirrus will not carry out. `field` is a path into the request, or empty."""

    status = 400

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class BadDocument(Refused):
    status = 422


class NotFound(Refused):
    status = 404


class Conflict(Refused):
    status = 409


class TooLarge(Refused):
    status = 413


class Defect(CirrusError):
    code = "defect"

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            f"a fault of Cirrus ({type(cause).__name__}): nothing was changed; its log says more"
        )


class StoreBroken(CirrusError):
    code = "store_broken"

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the store failed: {cause}")


class StorageFull(CirrusError):
    code = "storage_full"

    def __init__(self) -> None:
        super().__init__("the disk is full: free some space, then try again")


class Unavailable(CirrusError):
    """`subject` is who cannot answer now."""

    code = "unavailable"

    def __init__(self, subject: object, problem: str = "") -> None:
        super().__init__(f"{subject}: {problem}" if problem else str(subject))


class SetupError(CirrusError):
    """`subject` is what stands in the way: a file, a setting, an address."""

    code = "setup"

    def __init__(self, subject: object, problem: str = "") -> None:
        super().__init__(f"{subject}: {problem}" if problem else str(subject))


class WireError(CirrusError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineError(CirrusError):
    """`subject` is what it is about: an image, a mount, an address."""

    code = "engine"

    def __init__(self, subject: object, problem: str = "") -> None:
        super().__init__(f"{subject}: {problem}" if problem else str(subject))


class EngineAway(EngineError):
    code = "engine_away"


class StartRefused(EngineError):
    code = "start_refused"
