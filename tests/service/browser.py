"""Prefect's UI in a headless Chromium, as people see it: fields by their labels, pages by their names."""

import os
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

CHROMIUM = shutil.which("chromium")
_ARGUMENTS = [
    "--no-sandbox",  # of no use in a container, where tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Everything the form says of its fields and groups, in the order in which it says it.
_READ_FORM = """form => [...form.querySelectorAll('fieldset')].flatMap(fieldset => {
    const header = fieldset.previousElementSibling
    if (!header?.querySelector('label')) return []
    const own = selector => [...fieldset.querySelectorAll(selector)].find(e => e.closest('fieldset') === fieldset)
    const kinds = {
        optional: '[role=tab][aria-selected=true]', choice: '[aria-haspopup=listbox]', toggle: '[role=switch]',
        number: 'input[type=number]', list: '[aria-live]', group: '[data-slot=card]', text: 'textarea',
    }
    const kind = Object.keys(kinds).find(kind => own(kinds[kind])) ?? 'something else'
    const control = own(kinds[kind])
    const values = {
        optional: control?.innerText, choice: control?.innerText, toggle: control?.ariaChecked, group: '', list: '',
    }
    return [[
        header.querySelector('label').innerText.replace(' (Optional)', ''),
        [...header.querySelectorAll('p')].map(p => p.innerText).join(' '), kind, values[kind] ?? control?.value ?? '',
    ]]
})"""


class Field(NamedTuple):
    """A field or group of a form. Its kind: text, number, choice, toggle, list, optional or group."""

    label: str
    description: str
    kind: str
    value: str


class Ui:
    """The UI of one Prefect server in one page.

    Args:
        page: of the browser.
        url: of the server.
        pictures: folder for screenshots.
    """

    def __init__(self, page: "Page", url: str, pictures: Path) -> None:
        self.page, self._url, self._pictures = page, url, pictures
        self.elsewhere: set[str] = set()  # what the UI has asked of other hosts
        page.route("**/*", self._stay_here)

    def _stay_here(self, route: "Route") -> None:
        """No test reaches a network."""
        if route.request.url.startswith((self._url, "data:", "blob:")):
            route.continue_()
        else:
            self.elsewhere.add(route.request.url)
            route.abort()

    def login(self, text: str) -> None:
        """Type what the login page asks for. The browser keeps it for the pages after this one."""
        self.page.goto(f"{self._url}/v2/dashboard")
        asked = self.page.locator("input[type=password]")
        asked.fill(text)
        asked.press("Enter")
        self.see("Dashboard")

    def open(self, path: str, *expected: str) -> None:
        """Open a page and wait until it says what is expected."""
        self.page.goto(f"{self._url}/v2/{path}")
        self.see(*expected)

    def see(self, *expected: str, seconds: float = 60) -> None:
        """Wait until the page says all this."""
        for text in expected:
            self.page.get_by_text(text).filter(visible=True).first.wait_for(timeout=1000 * seconds)

    def picture(self, name: str) -> None:
        """A screenshot, for people to look at."""
        self.page.wait_for_timeout(700)  # what fades in is there by then
        self.page.screenshot(path=self._pictures / f"{name}.png")

    def text(self) -> str:
        """All that the page says, with single spaces."""
        return re.sub(r"\s+", " ", self.page.inner_text("body"))

    def tab(self, name: str) -> None:
        """Open a tab of the page."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def run_form(self, deployment: str) -> "RunForm":
        """Go to a deployment as people do, and open the form of a custom run."""
        self.open("deployments?limit=25", "Items per page")
        self.page.get_by_role("link", name=deployment, exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.page.locator("form fieldset label").first.wait_for()
        return RunForm(self.page)

    def resume_form(self, run: str) -> "RunForm":
        """Go to a paused run as people do, and open the form in which it waits for an answer."""
        self.open(f"runs/flow-run/{run}", "Paused")
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name="Resume").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text("Provide input to resume").wait_for()
        dialog.locator("fieldset label, label").first.wait_for()
        return RunForm(self.page, dialog)


class RunForm:
    """The form of a custom run of a deployment, or of a run that waits for an answer."""

    def __init__(self, page: "Page", form: "Locator | None" = None) -> None:
        self._page, self._form = page, form or page.locator("form")

    def read(self) -> list[Field]:
        """Its fields and groups, from top to bottom."""
        return [
            Field(*(text.strip() for text in field)) for field in self._form.evaluate(_READ_FORM)
        ]

    def field(self, *labels: str) -> "Locator":
        """A field, by the labels of its groups and its own."""
        found = self._form
        for label in labels:
            says = f"normalize-space()='{label}' or normalize-space()='{label} (Optional)'"
            found = found.locator(f"xpath=.//div[./fieldset and ./div[1]//label[{says}]]")
        return found

    def fill(self, value: object, *labels: str) -> None:
        """Write a text or a number into a field."""
        self.field(*labels).locator("textarea, input").first.fill(str(value))

    def switch(self, *labels: str) -> None:
        """Turn a switch."""
        self.field(*labels).get_by_role("switch").click()

    def choose(self, choice: str, *labels: str) -> list[str]:
        """Choose from a drop-down; returns all that it offers."""
        self.field(*labels).locator("[aria-haspopup=listbox]").click()
        offered = self._page.get_by_role("option")
        offered.first.wait_for()
        choices = offered.all_inner_texts()
        self._page.get_by_role("option", name=choice, exact=True).click()
        return choices

    def complaint(self, *labels: str) -> str:
        """What the browser itself has against the value of a field; '' when it is fine."""
        return self.field(*labels).locator("input").evaluate("input => input.validationMessage")

    def without_validation(self) -> None:
        """Turn off the switch that has the server look at the values."""
        self._page.get_by_role("switch", name="Enforce Parameter Schema").click()

    def submit(self, button: str = "Submit") -> str:
        """Press the button of that name; returns what the UI then says, as far as it says something.

        Where SQLite was locked the UI says "Unknown error", and one presses again.
        """
        said = "Unknown error"
        for _ in range(5):
            if "Unknown error" in said:
                self._page.get_by_role("button", name=button, exact=True).click()
                self._page.wait_for_timeout(3000)
                said = " ".join(self._page.locator("[data-sonner-toast]").all_inner_texts())
        return re.sub(r"\s+", " ", said)


@contextmanager
def chromium(*switches: str) -> Generator["Page"]:
    """A page of a fresh browser; `switches` are for its command line."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*_ARGUMENTS, *switches]
        )
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(180_000)
            yield page
        finally:
            browser.close()


def pictures_folder(otherwise: Path) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get("SCREENSHOTS") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def described(model: dict[str, Any], models: dict[str, Any] | None = None) -> Iterator[Field]:
    """What a form should show, by the JSON schema of its parameters, in the order of the code. Values are left out."""
    kinds = {"integer": "number", "boolean": "toggle", "string": "text", "array": "list"}
    models = model.get("$defs", {}) if models is None else models
    for name, field in model["properties"].items():
        inner = models.get(field.get("$ref", "").rpartition("/")[2])
        if inner:
            kind = "group"
        elif "enum" in field or "enum" in field.get("items", {}):
            kind = "choice"
        else:
            kind = kinds.get(field.get("type", ""), field.get("type", "optional"))
        label = field.get("title") or name.replace("_", " ").title()
        description = field.get("description") or (inner or {}).get("description", "")
        yield Field(label, description, kind, "")
        chosen = field.get("anyOf", [{}])[0] if field.get("default") is not None else {}
        inner = inner or models.get(chosen.get("$ref", "").rpartition("/")[2])
        if inner:
            yield from described(inner, models)
