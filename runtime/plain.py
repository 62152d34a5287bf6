"""Text from elsewhere, made fit for a terminal."""


def plain(text: str) -> str:
    """Escape what a terminal would act on, or not show: such a text holds whatever somebody sent."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
