"""A text of a card on the screen: Markdown set by `llmquiz.tui.prose`, selectable, laid out anew for each width."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from llmquiz.tui.prose import Block, blocks, paragraph, set_lines


class Prose(Widget):
    """Markdown of any length; as high as its text, gone when it has none.

    Args:
        balance: lines about equally long, for questions.
        strong: style of strong text.
    """

    DEFAULT_CSS = """
    Prose { height: auto; width: 1fr; }
    """

    def __init__(
        self,
        *,
        balance: bool = False,
        strong: str = "bold",
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._balance = balance
        self._strong = strong
        self._blocks: tuple[Block, ...] = ()
        self._laid_out: tuple[int, Content] | None = None
        self.markdown = ""
        self.display = False

    def show(self, markdown: str, *, label: str = "") -> None:
        """Draw `markdown` from now on, below a quiet heading where `label` is one."""
        self.markdown = markdown
        body = blocks(markdown, strong=self._strong, balance=self._balance)
        if label and body:
            heading = Block(paragraph(Content.styled(label, "$muted")))
            body = (heading, Block(body[0].lines, body[0].first, body[0].rest, tight=True), *body[1:])
        self._blocks = body
        self._laid_out = None
        self.display = bool(body)
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._at(width).plain.split("\n"))

    def render(self) -> Content:
        return self._at(self.content_size.width)

    def _at(self, width: int) -> Content:
        if self._laid_out is None or self._laid_out[0] != width:
            self._laid_out = (width, Content("\n").join(set_lines(self._blocks, width)))
        return self._laid_out[1]
