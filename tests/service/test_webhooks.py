"""Webhooks without a network: who is told what, in which order, how often, and what is kept of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from cubeport import settings
from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.adapters.posting import Asker
from cubeport.catalog.backend import Row
from cubeport.catalog.forms.canonical import new_id, now, timestamp
from cubeport.errors import InvalidConfiguration, Locked, NotFound, SourceFailed, SourceRejected
from cubeport.service import changes
from cubeport.service.state import CHANGE
from cubeport.service.webhooks import TRIES, WAITS_S, WEBHOOK, Webhook, Webhooks, signature

SECRET = "s" * 32


class Receiver:
    """Answers with the statuses that it is given, then 200; keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.got.append((url, headers, json.loads(body)))
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            raise SourceFailed("the line broke")
        return status

    @property
    def ids(self) -> list[str]:
        """The ids of messages, without the part that no other instance has."""
        return [headers["webhook-id"].rpartition("-")[0] for _, headers, _ in self.got]


class World:
    def __init__(self, *hooks: Webhook, post: Receiver | None = None, lock: Any = lambda _: nullcontext()) -> None:
        self.backend = MemoryBackend()
        self.post = post or Receiver()
        self.hooks = hooks or (Webhook("https://hooks.example/a?token=t", SECRET, "HOOK"),)
        self.webhooks = Webhooks(
            self.backend, self.hooks, post=self.post, lock=lock, name="inst", public_url="https://data.example"
        )
        for each in self.hooks:
            self.webhooks.deliver(each)  # it begins here

    def change(self, reason: str = "version", visibility: str | None = None) -> None:
        document = {
            "time": timestamp(now()),
            "type": "upserted",
            "reason": reason,
            "dataset_id": "t",
            "version_id": "f" * 32,
            "visibility": visibility,
        }
        self.backend.rows.put(Row(CHANGE, new_id(), document, seq=self.backend.rows.next_seq(CHANGE)))

    def state(self, n: int = 0) -> dict[str, Any]:
        return self.webhooks.list()[n]

    def deliver(self, later_s: float = 0) -> int:
        return sum(self.webhooks.deliver(each, now() + timedelta(seconds=later_s)) for each in self.hooks)


def test_each_change_is_sent_once_in_order_signed() -> None:
    world = World()
    for reason in ("created", "version", "deleted"):
        world.change(reason)
    assert world.deliver() == 3
    assert world.deliver() == 0
    assert world.post.ids == ["inst-1", "inst-2", "inst-3"]
    url, headers, document = world.post.got[1]
    assert url == "https://hooks.example/a?token=t"
    assert (document["reason"], document["href"]) == ("version", "https://data.example/datasets/t")
    body = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert {name: world.state()[name] for name in ("state", "waiting", "delivered", "given_up", "last_error")} == {
        "state": "up-to-date",
        "waiting": 0,
        "delivered": 3,
        "given_up": 0,
        "last_error": None,
    }
    assert "token" not in json.dumps(world.state()), "an address may hold a secret"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification (standard-webhooks 1.0.0).
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_failure_is_tried_again_later_and_holds_the_order() -> None:
    world = World(post=Receiver(503, 0))
    world.change()
    world.change()
    assert world.deliver() == 0
    assert (world.state()["state"], world.state()["tries"]) == ("failing", 1)
    assert world.deliver() == 0
    assert len(world.post.got) == 1, "not before its time"
    assert world.deliver(WAITS_S[0] + 1) == 0
    assert "the line broke" in world.state()["last_error"]
    assert world.deliver(WAITS_S[1] + 1) == 2
    assert world.post.ids == ["inst-1", "inst-1", "inst-1", "inst-2"]
    assert [int(each[1]["webhook-timestamp"]) > 0 for each in world.post.got]


def test_no_other_instance_sends_a_message_of_the_same_id() -> None:
    """Receivers drop messages whose id they know, and instances have the same name if nobody gave them one."""
    sent = set()
    for _ in range(2):
        world = World()
        world.change()
        world.deliver()
        sent |= {headers["webhook-id"] for _, headers, _ in world.post.got}
    assert len(sent) == 2


def test_a_server_that_stops_does_not_deliver_all_that_waits() -> None:
    world, stopping = World(), threading.Event()
    for _ in range(5):
        world.change()
    stopping.set()
    assert world.webhooks.deliver(world.hooks[0], stopping=stopping) == 1
    assert world.deliver() == 4


def test_a_clock_that_was_wrong_holds_no_change_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(post=Receiver(503))
    world.change()
    with monkeypatch.context() as ahead:
        ahead.setattr("cubeport.service.webhooks.now", lambda: now() + timedelta(days=4000))
        assert world.deliver() == 0
    assert (world.state()["state"], world.deliver()) == ("failing", 1)


def test_after_eight_tries_a_change_is_given_up_and_the_next_is_sent() -> None:
    world = World(post=Receiver(*[302] * TRIES))
    world.change()
    world.change()
    for _ in range(TRIES - 1):
        assert world.deliver(7_200) == 0
    assert world.deliver(7_200) == 1
    assert world.post.ids == ["inst-1"] * TRIES + ["inst-2"]
    assert (world.state()["given_up"], world.state()["delivered"], len(WAITS_S)) == (1, 1, TRIES - 1)


def test_only_the_events_that_are_asked_for_are_sent_and_each_receiver_has_its_own_place() -> None:
    hooks = Webhook("https://a.example/", SECRET, "A", ("deleted",)), Webhook("https://b.example/", SECRET, "B")
    world = World(*hooks, post=Receiver(500))
    world.change("created")
    world.change("deleted")
    assert world.deliver() == 2
    assert [(url, document["reason"]) for url, _, document in world.post.got] == [
        ("https://a.example/", "deleted"),
        ("https://b.example/", "created"),
        ("https://b.example/", "deleted"),
    ]
    assert world.state(0)["state"] == "failing"
    assert world.state(1)["delivered"] == 2


def test_changes_of_restricted_datasets_are_only_sent_to_who_asks_for_them() -> None:
    world = World(Webhook("https://a.example/", SECRET, "A"), Webhook("https://b.example/", SECRET, "B", restricted=True))
    for visibility in ("private", "public", "project", None):
        world.change("version", visibility)
    assert world.deliver() == 6
    assert [url for url, _, _ in world.post.got] == ["https://a.example/"] * 2 + ["https://b.example/"] * 4
    assert world.post.ids[:2] == ["inst-2", "inst-4"]
    assert {each["state"] for each in world.webhooks.list()} == {"up-to-date"}


def test_one_process_of_all_serves_a_webhook() -> None:
    held = threading.Lock()

    def lock(_: str) -> AbstractContextManager[object]:
        if held.locked():
            raise Locked("another holds it")
        return nullcontext()

    world = World(lock=lock)
    world.change()
    with held:
        assert world.deliver() == 0
    assert world.deliver() == 1


def test_what_was_forgotten_before_it_could_be_told_is_counted() -> None:
    world = World()
    for _ in range(4):
        world.change()
    for row in world.backend.rows.select(CHANGE)[:3]:
        world.backend.rows.delete(CHANGE, row.id)
    assert world.deliver() == 1
    assert world.post.ids == ["inst-4"]
    assert world.state()["given_up"] == 3


def test_a_kill_between_the_answer_and_the_note_of_it_sends_the_same_id_again() -> None:
    world = World()
    world.change()
    before = world.backend.rows.get(WEBHOOK, world.hooks[0].id)
    assert before is not None
    world.deliver()
    after = world.backend.rows.get(WEBHOOK, world.hooks[0].id)
    assert after is not None
    world.backend.rows.delete(WEBHOOK, before.id)
    world.backend.rows.put(Row(WEBHOOK, before.id, before.document))
    world.deliver()
    assert world.post.ids == ["inst-1", "inst-1"]


def test_a_test_is_a_signed_ping_and_moves_nothing() -> None:
    world = World(post=Receiver(204, 500))
    [hook] = world.hooks
    said = world.webhooks.test(hook.id[:4])
    assert (said["status"], said["error"]) == (204, None)
    assert world.webhooks.test(hook.id)["error"] == "the receiver answers 500"
    assert world.post.got[0][2]["kind"] == "Ping"
    assert world.state()["delivered"] == 0
    with pytest.raises(NotFound):
        world.webhooks.test("ffffffff")


@pytest.mark.parametrize("secret", [None, "short", "whsec_not base64"])
def test_a_webhook_without_a_good_secret_stops_the_start(secret: str | None) -> None:
    world = World(Webhook("https://a.example/", secret, "HOOK"))
    with pytest.raises(InvalidConfiguration, match=r"HOOK|base64"):
        world.webhooks.check()
    World().webhooks.check()


def test_a_secret_is_changed_without_losing_a_change(tmp_path: Path) -> None:
    """As Standard Webhooks say: one signature for each secret, with a space between them."""
    (tmp_path / "config").mkdir()
    target = "{url: 'https://a.example/x', secret_env: NEW, old_secret_env: OLD}"
    (tmp_path / "config/service.yaml").write_text(f"webhooks: {{origins: ['https://a.example'], targets: [{target}]}}\n")
    [named] = settings.load(tmp_path).webhooks.targets
    world = World(Webhook.of({"NEW": SECRET, "OLD": "o" * 32}, **dict(named)))
    world.webhooks.check()
    world.change()
    world.deliver()
    [(_, headers, document)] = world.post.got
    body = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    at = int(headers["webhook-timestamp"])
    expected = [signature(secret, headers["webhook-id"], at, body) for secret in (SECRET, "o" * 32)]
    assert headers["webhook-signature"].split(" ") == expected
    for old in ({}, {"OLD": "short"}):
        with pytest.raises(InvalidConfiguration, match="OLD"):
            Webhook.of({"NEW": SECRET} | old, **dict(named)).check()


def test_settings_take_only_targets_of_allowed_origins(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "service.yaml"
    said = "webhooks:\n  origins: [https://a.example]\n  targets:\n    - {url: '%s', secret_env: HOOK%s}\n"
    file.write_text(said % ("https://a.example/x", ", events: [created]"))
    [target] = settings.load(tmp_path).webhooks.targets
    assert (target.events, target.secret_env) == (("created",), "HOOK")
    for url, more, word in (
        ("https://b.example/x", "", "webhooks.origins"),
        ("http://a.example/x", "", "webhooks.origins"),
        ("https://u:p@a.example/x", "", "user"),
        ("file:///etc/passwd", "", "http"),
        ("https://a.example/x", ", events: [born]", "created"),
        ("https://a.example/x", ", secret: abc", "secret"),
    ):
        file.write_text(said % (url, more))
        with pytest.raises(InvalidConfiguration, match=word):
            settings.load(tmp_path)
    entry = "    - {url: 'https://a.example/x', secret_env: HOOK, events: [created]}\n"
    file.write_text(f"webhooks:\n  origins: [https://a.example]\n  targets:\n{entry}{entry.replace('created', 'deleted')}")
    with pytest.raises(InvalidConfiguration, match="the same url twice"):
        settings.load(tmp_path)
    assert set(get_args(settings.Reason.__value__)) == set(get_args(changes.Reason.__value__))


def test_a_name_with_a_private_address_is_not_asked() -> None:
    post = Asker(["https://hooks.example"], setting="webhooks.origins", resolve=lambda *_: ["10.0.0.1"]).post
    with pytest.raises(SourceRejected) as caught:
        post("https://hooks.example/x", b"{}", {})
    assert "webhooks.origins" in str(caught.value.next_step)
    with pytest.raises(SourceRejected):
        post("https://other.example/x", b"{}", {})
