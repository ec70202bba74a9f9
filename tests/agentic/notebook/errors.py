class NotebookError(Exception):
    pass


class NotFound(NotebookError):
    pass


class Invalid(NotebookError):
    pass


def described(error):
    word = "internal"
    if isinstance(error, NotFound):
        word = "not_found"
    elif isinstance(error, Invalid):
        word = "invalid"
    return {"error": word, "message": str(error)}
