"""`/docs`: the API for people, by Swagger UI, with nothing from other hosts.

The scripts are those that the package `fastapi-offline` ships. The page of FastAPI's own starts
them by a script in the page itself, which the service's content security policy forbids.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, HTTPException
from starlette.responses import HTMLResponse, Response

SCRIPTS = files("fastapi_offline") / "static"
_KINDS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><title>watchstep: API</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon.png">
</head>
<body>
<div id="api"></div>
<noscript>The whole of it: <a href="/openapi.json">openapi.json</a></noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true});\n'

routes = APIRouter(include_in_schema=False)


@routes.get("/docs")
def docs() -> HTMLResponse:
    return HTMLResponse(_PAGE)


@routes.get("/docs/{name}")
def script(name: str) -> Response:
    """One of the files that the page loads."""
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _KINDS:
        raise HTTPException(404)
    cached = {"Cache-Control": "public, max-age=86400"}
    return Response((SCRIPTS / name).read_bytes(), media_type=_KINDS[name], headers=cached)
