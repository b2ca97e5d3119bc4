"""What is answered to whom: a path in, a status and a value out."""

from urllib.parse import parse_qs, urlsplit

from converter.temperature import TooColdError, fahrenheit

Answer = tuple[int, dict[str, object]]


def answer(target: str) -> Answer:
    parts = urlsplit(target)
    if parts.path == "/health":
        return 200, {"ready": True}
    if parts.path == "/convert":
        return convert(parse_qs(parts.query))
    return 404, {"error": f"there is no {parts.path}"}


def convert(query: dict[str, list[str]]) -> Answer:
    try:
        celsius = float(query["celsius"][0])
        return 200, conversion(celsius)
    except TooColdError as error:
        return 400, {"error": str(error)}
    except (KeyError, ValueError):
        return 400, {"error": "give ?celsius= a number"}


def conversion(celsius: float) -> dict[str, object]:
    return {"celsius": celsius, "fahrenheit": fahrenheit(celsius)}
