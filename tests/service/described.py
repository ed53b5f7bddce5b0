"""A client that holds every answer against what `/openapi.json` says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from service.http_kit import Answer, Client


class DescribedClient(Client):
    """Fails where an answer is not described, or not as it is.

    Attributes:
        seen: Method and path of every operation whose JSON answers were held against it.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client.port, client.token)
        self.document = client.ask("GET", "/openapi.json").json
        self.seen: set[tuple[str, str]] = set()

    def ask(self, method: str, path: str, *more: Any, **named: Any) -> Answer:
        answer = super().ask(method, path, *more, **named)
        is_plain = "content-encoding" not in answer.headers and answer.body
        if is_plain and answer.headers.get("content-type", "").endswith("json"):
            self._check(method, path.partition("?")[0], answer)
        return answer

    def _check(self, method: str, path: str, answer: Answer) -> None:
        for template, operation in self._operations(method):
            if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
                content = operation["responses"][str(answer.status)]["content"]
                schema = content[answer.headers["content-type"]]["schema"]
                whole = {**schema, "components": self.document["components"]}
                Draft202012Validator(whole).validate(answer.json)
                self.seen.add((method, template))

    def _operations(self, method: str) -> Iterator[tuple[str, Any]]:
        for template, operations in self.document["paths"].items():
            if method.lower() in operations:
                yield template, operations[method.lower()]
