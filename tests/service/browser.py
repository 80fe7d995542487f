"""Prefect's UI in a headless Chromium, as the people who use it see it: fields by their labels, pages by their names."""

import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CHROMIUM = shutil.which("chromium")
_ARGUMENTS = [
    "--no-sandbox",  # tests in containers run as root, where its sandbox does not
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PROPERTY = "contains(concat(' ', @class, ' '), ' schema-form-property ')"
_LABEL = "./div[contains(@class, 'p-label__header')]//span[@class='schema-form-property__label']"
# Everything the form says of each of its fields, in the order in which it says it.
_READ_FORM = """form => [...form.querySelectorAll('.schema-form-property')].map(field => {
    const own = (selector) => [...field.querySelectorAll(selector)].find(
        found => found.closest('.schema-form-property') === field)
    const text = (selector) => own(selector)?.innerText.trim() ?? ''
    const kinds = {
        choice: '.p-select', toggle: '[role=switch]', number: 'input[type=number]', list: '.schema-form-property-array',
        group: '.schema-form-property-object', nothing: '.schema-form-property-null', text: 'textarea, input[type=text]',
    }
    const kind = Object.keys(kinds).find(kind => own(kinds[kind])) ?? 'something else'
    const control = own(kinds[kind] ?? '')
    return {
        label: text('.schema-form-property__label'), description: text('.schema-form-property__description'), kind,
        value: {choice: control?.innerText.trim(), toggle: control?.ariaChecked}[kind] ?? control?.value ?? '',
    }
})"""


class Ui:
    """The UI of one Prefect server in one page.

    Args:
        page: of the browser.
        url: of the server.
        pictures: folder for screenshots.
    """

    def __init__(self, page: "Page", url: str, pictures: Path) -> None:
        self.page, self._url, self._pictures = page, url, pictures
        self.elsewhere: list[str] = []  # what the UI has asked of other hosts
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith((self._url, "data:", "blob:")):
            self.elsewhere.append(url)

    def open(self, path: str, *expected: str) -> None:
        """Open a page and wait until it shows the expected texts."""
        self.page.goto(f"{self._url}/{path}")
        for text in expected:
            self.page.get_by_text(text).first.wait_for()

    def picture(self, name: str) -> None:
        """A screenshot, for people to look at."""
        self.page.wait_for_timeout(500)  # transitions
        self.page.screenshot(path=self._pictures / f"{name}.png")

    def text(self) -> str:
        """All that the page says, white space in a row as one space."""
        return re.sub(r"\s+", " ", self.page.inner_text("body"))

    def tab(self, name: str) -> None:
        """Open a tab of the page."""
        self.page.get_by_role("tab", name=name).or_(
            self.page.locator(".p-tab-navigation__tab, .p-tabs__tab").filter(has_text=name)
        ).first.click()


class RunForm:
    """The form of a custom run of a deployment."""

    def __init__(self, ui: Ui, deployment: str) -> None:
        ui.open("deployments", "Schedules")
        self._ui, self._page = ui, ui.page
        self._page.get_by_role("link", name=deployment, exact=True).first.click()
        self._page.get_by_role("button", name="Run", exact=True).click()
        self._page.get_by_text("Custom run").click()
        self._page.get_by_text("Validate parameters").wait_for()
        self._form = self._page.locator("form")

    def read(self) -> list[dict[str, str]]:
        """Label, description, kind and value of each field and group, from top to bottom."""
        return self._form.evaluate(_READ_FORM)

    def field(self, *labels: str) -> "Locator":
        """A field, by the labels of its groups and its own."""
        found = self._form
        for label in labels:
            says = f"normalize-space()='{label}' or normalize-space()='{label} (Optional)'"
            found = found.locator(f"xpath=.//div[{_PROPERTY}][{_LABEL}[{says}]]")
        return found

    def fill(self, value: object, *labels: str) -> None:
        """Write a text or a number into a field."""
        self.field(*labels).locator("textarea, input").first.fill(str(value))

    def switch(self, *labels: str) -> None:
        """Turn a switch."""
        self.field(*labels).get_by_role("switch").click()

    def choose(self, choice: str, *labels: str) -> list[str]:
        """Choose from a drop-down; returns all that it offers."""
        button = self.field(*labels).locator(".p-select-button__control")
        button.focus()
        button.press("Enter")
        offered = self._page.locator(".p-select-option")
        offered.first.wait_for()
        choices = [text.strip() for text in offered.all_inner_texts()]
        offered.filter(has_text=re.compile(rf"^\s*{choice}\s*$")).click()
        return choices

    def without_validation(self) -> None:
        """Uncheck the box that has the server look at the values first."""
        self._page.get_by_label("Validate parameters").uncheck()

    def submit(self) -> str:
        """Press the button; returns what the UI then says."""
        self._page.get_by_role("button", name="Submit").click()
        said = self._page.locator(".p-toast")
        said.first.wait_for()
        return re.sub(r"\s+", " ", said.first.inner_text())


@contextmanager
def chromium() -> Generator["Page"]:
    """A page of a fresh browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(60_000)
            yield page
        finally:
            browser.close()


def pictures_folder(otherwise: Path) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get("NIGHTSHIFT_SCREENSHOTS") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def described(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Label, description and kind of each field of a form, in the order of the model that the schema is of."""
    found: list[tuple[str, str, str]] = []
    _describe(schema, schema.get("$defs", {}), found)
    return found


def _describe(model: dict[str, Any], models: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    kinds = {"integer": "number", "boolean": "toggle", "string": "text", "array": "list"}
    for key, field in model.get("properties", {}).items():
        inner = models.get(field.get("$ref", "").rpartition("/")[2])
        kind = "group" if inner else "choice" if "enum" in field else "nothing"
        if "type" in field and kind == "nothing":
            kind = kinds.get(field["type"], field["type"])
        label = field.get("title") or key.replace("_", " ").title()
        found.append((label, field.get("description", "").replace("`", ""), kind))
        if inner:
            _describe(inner, models, found)
