"""What a browser may do with a page of the console: a strict content security policy, and who may embed it."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Protection:
    """ASGI middleware that adds the headers to every answer."""

    def __init__(self, app: ASGIApp, images: Sequence[str] = ()) -> None:
        """Wrap an application; `images` are other origins of which pictures are shown."""
        self._app = app
        self._headers = {
            "content-security-policy": content_security_policy(images),
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers.update(self._headers)
                message = {**message, "headers": headers.raw}
            await send(message)

        await self._app(scope, receive, protected)


def content_security_policy(images: Sequence[str]) -> str:
    """Return the policy: everything from here, nothing inline, pictures also from other origins."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            " ".join(("img-src 'self'", *images)),
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
