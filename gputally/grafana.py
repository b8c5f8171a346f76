"""One Grafana, asked over its HTTP API by grafana-client: bounded answers, and errors that say what helps.

The token goes into the header of requests and nowhere else: no proxy or netrc of the environment is used, no
redirect is followed, and it is cut out of whatever a server says.
"""

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import requests
from grafana_client import GrafanaApi, client  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError

from agent.asking import LONGEST_WORD, reason_of, secret
from agent.errors import SettingsError, StoreError
from agent.holders.names import printable
from gputally import grafana_answers as answers
from gputally.addresses import address

OLDEST = (11, 0)
TAKES_NEW_UIDS = (11, 5, 2)
"""From here on a group of rules may come with UIDs that Grafana does not know yet."""
Json = dict[str, Any]

EDITOR = "the role Editor, or the permissions folders:create, dashboards:create and dashboards:write"
READER = "the permission datasources:read; or name the data source by --data-source-uid UID"
ADMIN = "the role Admin, or the permissions datasources:read, datasources:create and datasources:write"
ALERTING = "the role Editor, or Admin where that is not enough, or the permission alert.provisioning:write"


class RefusedError(StoreError):
    """Grafana answered and will not do this one thing; others may still go well."""


class Grafana:
    """One of them. Raises SettingsError for an address, a token or certificates that cannot be meant.

    `has_hidden` is true once it did not tell whether something is there.
    """

    def __init__(self, url: str, *, token_file: Path | None = None, ca_file: Path | None = None) -> None:
        parts = address("--url", url)
        host = parts.hostname or ""
        path = parts.path.strip("/")
        self.url = url.rstrip("/")
        self.version: tuple[int, ...] = ()
        self.has_hidden = False
        self._token_file = token_file
        self._token = "" if token_file is None else secret(token_file)
        self._api = GrafanaApi(
            auth=client.TokenAuth(self._token) if self._token else None,
            host=f"[{host}]" if ":" in host else host,
            port=parts.port,
            url_path_prefix=f"{path}/" if path else "",
            protocol=parts.scheme,
            verify=_trusted(ca_file),
            timeout=answers.SECONDS,
            user_agent="gputally",
        )
        session: requests.Session = self._api.client.s
        session.trust_env = False
        session.hooks["response"] = [answers.bounded]

    def __enter__(self) -> Self:
        """Give it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of connections."""
        self._api.client.s.close()

    def greet(self) -> None:
        """See whether this is a Grafana that is new enough. Raises StoreError."""
        with self._asked("be asked"):
            told = self._api.health.check()
        if not isinstance(told, dict) or "database" not in told:
            raise StoreError(
                f"{self.url} is no Grafana: /api/health answers something else; is a path missing?"
            )
        found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(told.get("version", "")))
        if found is None:  # who does not sign in need not be told
            return
        self.version = tuple(int(one or 0) for one in found.groups())
        if self.version < OLDEST:
            raise StoreError(
                f"{self.url} is Grafana {found[0]}, and 11.0 is the oldest that will do: upgrade it, or"
                " import by hand what `gputally dashboards build` writes"
            )

    def has_folder(self, uid: str) -> bool:
        """Tell whether a folder is there. Raises StoreError."""
        return self._read("the folder", EDITOR, self._api.folder.get_folder, uid, or_hidden=True) is not None

    def make_folder(self, uid: str, title: str) -> None:
        """Make a folder. Raises StoreError."""
        with self._asked("make the folder", EDITOR):
            self._api.folder.create_folder(title, uid=uid)

    def data_sources(self) -> list[Json]:
        """List what it may ask. Raises StoreError."""
        with self._asked("list its data sources", READER):
            told = self._api.datasource.list_datasources()
        if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
            raise StoreError(f"{self.url} does not answer as a Grafana does: its data sources are no list")
        return told

    def data_source(self, uid: str, needs: str = ADMIN) -> Json | None:
        """Give a data source, if it is there. Raises StoreError."""
        return self._read("the data source", needs, self._api.datasource.get_datasource_by_uid, uid)

    def write_data_source(self, wanted: Json, *, is_new: bool) -> None:
        """Make or change a data source. Raises StoreError."""
        with self._asked("take the data source", ADMIN):
            if is_new:
                self._api.datasource.create_datasource(wanted)
            else:
                self._api.datasource.update_datasource_by_uid(wanted["uid"], wanted)

    def dashboard(self, uid: str) -> Json | None:
        """Give a dashboard and what Grafana says of it, if it is there. Raises StoreError."""
        ask = self._api.dashboard.get_dashboard
        found = self._read("the dashboard", EDITOR, ask, uid, or_hidden=True)
        if found is None or all(isinstance(found.get(name), dict) for name in ("dashboard", "meta")):
            return found
        raise StoreError(f"{self.url} does not answer as a Grafana does: a dashboard without its text")

    def write_dashboard(self, wanted: Json, folder: str) -> None:
        """Make or change a dashboard. Raises StoreError."""
        told = {"dashboard": wanted, "folderUid": folder, "overwrite": True, "message": "gputally"}
        with self._asked("take the dashboard", EDITOR):
            self._api.dashboard.update_dashboard(told)

    def rule_group(self, folder: str, name: str) -> Json | None:
        """Give a group of alert rules, if it is there. Raises StoreError."""
        found = self._read(
            "the alert rules", ALERTING, self._api.alertingprovisioning.get_rule_group, folder, name
        )
        rules = None if found is None else found.get("rules")
        if found is None or (isinstance(rules, list) and all(isinstance(one, dict) for one in rules)):
            return found
        raise StoreError(f"{self.url} does not answer as a Grafana does: alert rules without a list of them")

    def write_rule_group(self, wanted: Json, known: frozenset[str]) -> None:
        """Make a group of alert rules what it should be; `known` are the UIDs in it. Raises StoreError."""
        with self._asked("take the alert rules", ALERTING):
            if self.version < TAKES_NEW_UIDS:
                for rule in wanted["rules"]:
                    if rule["uid"] not in known:
                        self._api.alertingprovisioning.create_alertrule(rule)
            self._api.alertingprovisioning.update_rule_group(wanted["folderUid"], wanted["title"], wanted)

    def _read(
        self,
        what: str,
        needs: str,
        ask: Any,  # noqa: ANN401  it is untyped
        *words: str,
        or_hidden: bool = False,
    ) -> Json | None:
        """Ask for what need not be there; `or_hidden`: it may be forbidden, as to all but Admins."""
        with self._asked(f"show {what}", needs):
            try:
                found = ask(*words)
            except client.GrafanaClientError as error:
                if error.status_code == answers.NOT_FOUND:
                    return None
                if or_hidden and error.status_code == answers.FORBIDDEN:
                    self.has_hidden = True
                    return None
                raise
        if not isinstance(found, dict):
            raise StoreError(f"{self.url} does not answer as a Grafana does when asked for {what}")
        return found

    @contextlib.contextmanager
    def _asked(self, what: str, needs: str = "") -> Iterator[None]:
        """Say in one sentence what went wrong, and what helps."""
        try:
            yield
        except client.GrafanaException as error:
            told = self._plain(answers.message(error.status_code, error.response))
            if error.status_code == answers.UNAUTHORIZED:
                raise StoreError(f"{self.url} does not let us in: {told}; {self._key()}") from error
            text = f"{self.url} refuses to {what}: {told}{answers.helps(error.status_code, told, needs)}"
            raise RefusedError(text) from error
        except answers.ElsewhereError as error:
            where = self._plain(str(error))
            raise StoreError(
                f"{self.url} sends us elsewhere: name the address it sends to, {where}"
            ) from error
        except (OSError, HTTPError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise StoreError(f"{self.url} cannot {what}: {self._trouble(error)}") from error

    def _trouble(self, error: Exception) -> str:
        told = self._plain(reason_of(error))
        if answers.is_about_certificates(error):
            return f"{told}; name the file of who signed its certificate: --ca-file FILE"
        if isinstance(error, requests.JSONDecodeError | RecursionError):
            return "its answer is no JSON; is it the address of a Grafana, with the path before /api?"
        return f"{told}; does it run, and is it the address of a Grafana?"

    def _key(self) -> str:
        if self._token_file is None:
            return "name a file with the token of a service account: --token-file FILE"
        return (
            f"the token in {self._token_file} is wrong or has expired: make another for the service account"
        )

    def _plain(self, told: str) -> str:
        """Make one short line of what a server says."""
        text = told.replace(self._token, "***") if self._token else told
        return printable(" ".join(text.split()), LONGEST_WORD)


def _trusted(ca_file: Path | None) -> str | bool:
    """Give whom to believe: a file, else what the machine believes."""
    if ca_file is None:
        usual = ssl.get_default_verify_paths()
        return usual.cafile or usual.capath or True
    try:
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the certificates {ca_file}: {error}") from error
    return str(ca_file)
