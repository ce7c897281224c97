"""Mail by smtplib and by raw sockets: 250 only for what is durable, and a refusal for all else."""

from __future__ import annotations

import asyncio
import email.message
import smtplib
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from crossfade.adapters.triggers import smtp as module
from crossfade.adapters.triggers.smtp import MailBox, MailServer
from crossfade.shim.claimcheck import parse_dataref
from crossfade.shim.errors import ConfigurationError
from plugins.nats import until


def mail(subject="Report", *, ident="<1@sender.example>", text="events\n"):
    made = email.message.EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, "ada@sender.example", "reports@desk.example"
    if ident:
        made["Message-ID"] = ident
    made.set_content(text)
    return made


@asynccontextmanager
async def serving(world, **settings):
    """A mail server; gives its port."""
    settings = {"listen": ("127.0.0.1", 0), "recipients": ("reports@desk.example", "@all.example"), **settings}
    async with world.running(MailServer(MailBox(**settings), world.intake("mail"))) as where:
        yield int(where["mail"].rpartition(":")[2])


def _send(port, message, to, then):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        if then:
            then(client)
        return client.send_message(message, to_addrs=to)


async def send(port, message, *, to=("reports@desk.example",), then=None):
    return await asyncio.to_thread(_send, port, message, list(to), then)


async def talk(port, *steps):
    """Send raw bytes one after the other; the replies, one a step."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    replies = [await reader.readline()]
    for step in steps:
        writer.write(step)
        await writer.drain()
        reply = await asyncio.wait_for(reader.readline(), 20)
        while reply[3:4] == b"-":
            reply = await asyncio.wait_for(reader.readline(), 20)
        replies.append(reply)
    writer.close()
    return [reply[:3].decode() for reply in replies]


HELLO = (b"EHLO me\r\n", b"MAIL FROM:<a@sender.example>\r\n", b"RCPT TO:<reports@desk.example>\r\n", b"DATA\r\n")


async def test_a_mail_is_a_fact_with_its_attachments_in_the_object_store(world):
    """Headers, text and envelope in the fact; attachment and raw mail by claim check, whole."""
    message = mail("Bericht für März")
    message.add_attachment(b"\x00" * 300_000, maintype="application", subtype="pdf", filename="a.pdf")
    async with serving(world, tenant="acme", user="ada") as port:
        await send(port, message)

    (fact,) = await world.facts("email.received", tenant="acme", user="ada")
    data = await world.data(fact)
    assert (data["subject"], data["text"], data["author"]) == ("Bericht für März", "events\n", "ada@sender.example")
    assert (data["sender"], data["recipients"]) == ("ada@sender.example", ["reports@desk.example"])
    assert (data["login"], data["tls"]) == ("", False)
    (attachment,) = data["attachments"]
    assert (attachment["name"], attachment["type"], attachment["size"]) == ("a.pdf", "application/pdf", 300_000)
    ref = parse_dataref(attachment["dataref"])
    assert ref.sha256 == attachment["sha256"]
    assert await world.bus.get_object(ref) == b"\x00" * 300_000
    assert b"Message-ID: <1@sender.example>" in await world.bus.get_object(parse_dataref(data["raw"]["dataref"]))
    assert data["defects"] == []


async def test_a_mail_sent_again_is_a_duplicate(world, counts):
    """By its Message-ID, envelope and body, else by all of it; another body or other recipients make another mail."""
    async with serving(world) as port:
        for _ in "ab":
            await send(port, mail())
        await send(port, mail(text="other\n"))
        await send(port, mail(), to=("x@all.example",))
        for _ in "ab":
            await send(port, mail(ident=None))

    assert len(await world.facts("email.received")) == 4
    assert counts.get("trigger-duplicate", seam="mail") == 2


async def test_a_recipient_nobody_knows_is_550(world, counts):
    """The others of the same mail are taken; nobody at all is a refused mail."""
    async with serving(world) as port:
        refused = await send(port, mail(), to=("X@ALL.example", "root@desk.example"))
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            await send(port, mail(ident="<2@s>"), to=("root@desk.example",))

    assert refused["root@desk.example"][0] == 550
    (fact,) = await world.facts("email.received")
    assert (await world.data(fact))["recipients"] == ["X@ALL.example"]
    assert counts.get("trigger-refused", seam="mail", reason="recipient") == 2


async def test_a_mail_too_large_is_552(world):
    """Announced by SIZE or found out while it comes; the connection goes on."""
    large = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 1000 + b".\r\n"
    async with serving(world, max_bytes=1000) as port:
        announced = await talk(port, b"EHLO me\r\n", b"MAIL FROM:<a@s.example> SIZE=1001\r\n")
        sent = await talk(port, *HELLO, large, b"NOOP\r\n")

    assert (announced[-1], sent[-2:]) == ("552", ["552", "250"])
    assert await world.facts("email.received") == []


async def test_a_bus_that_is_away_is_451_and_the_next_try_is_taken(worlds, broker):
    """What got 250 is there after the broker's return, what got 451 is there once its sender has sent it again."""
    world = await worlds(broker.url)
    async with serving(world) as port:
        await send(port, mail(ident="<1@s>"))
        broker.stop()
        with pytest.raises(smtplib.SMTPDataError) as refused:
            await send(port, mail(ident="<2@s>"))
        broker.start()
        await until(lambda: world.bus.connected)
        await until(lambda: _sent(port, mail(ident="<2@s>")), 20)

    assert refused.value.smtp_code == 451
    found = [(await world.data(fact))["message_id"] for fact in await world.facts("email.received")]
    assert found == ["<1@s>", "<2@s>"]


async def _sent(port, message):
    try:
        await send(port, message)
    except smtplib.SMTPDataError:
        return False
    return True


async def test_a_mistake_of_ours_is_451_not_the_senders_loss(world, counts, monkeypatch):
    """An error nobody foresaw must not make the sender give the mail up."""

    def broken(_content):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "read_mail", broken)
    async with serving(world) as port:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            await send(port, mail())

    assert refused.value.smtp_code == 451
    assert counts.get("trigger-failed", seam="mail", reason="ZeroDivisionError") == 1


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r"])
async def test_a_smuggled_end_ends_no_mail(world, end):
    """What only looks like an end is part of the mail, so nothing after it is a second mail (CVE-2024-27305)."""
    smuggled = b"MAIL FROM:<evil@x>\r\nRCPT TO:<reports@desk.example>\r\nDATA\r\nSubject: evil\r\n\r\nx"
    async with serving(world) as port:
        replies = await talk(port, *HELLO, b"Subject: good\r\n\r\nbody" + end + smuggled + b"\r\n.\r\n")

    assert replies[-1] == "250"
    (fact,) = await world.facts("email.received")
    data = await world.data(fact)
    assert data["subject"] == "good"
    unstuffed = end.replace(b"\r\n.", b"\r\n")  # RFC 5321, 4.5.2: a line's first dot is the transport's
    assert unstuffed + smuggled in await world.bus.get_object(parse_dataref(data["raw"]["dataref"]))


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\r\n",
        b"\x00\r\n",
        b"MAIL FROM:<\xff>\r\n",
        b"X" * 5000 + b"\r\n",
        b"AUTH PLAIN \xff\r\n",
        b"BDAT 5\r\n",
    ],
)
async def test_a_hostile_command_is_refused_and_harms_nobody(world, line):
    """A 5xx, and the next command is heard."""
    async with serving(world) as port:
        replies = await talk(port, b"EHLO me\r\n", line, b"NOOP\r\n")

    assert replies[2][0] == "5"
    assert replies[3] == "250"


async def test_hostile_mails_are_taken_whole(world):
    """Whatever stands in it, a mail is a fact with its bytes, or refused."""
    hostile = [
        b"\xff\xfe\x00",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 20_000,
        b"Subject: =?utf-8?b?" + b"////" * 10 + b"?=\r\n\r\n",
        b"Message-ID: \r\n folded\r\n\r\n",
        b"",
    ]
    async with serving(world) as port:
        replies = [(await talk(port, *HELLO, content + b"\r\n.\r\n"))[-1] for content in hostile]

    assert replies == ["250"] * len(hostile)
    facts = await world.facts("email.received")
    raws = [(await world.data(fact))["raw"]["dataref"] for fact in facts]
    assert [await world.bus.get_object(parse_dataref(raw)) for raw in raws] == [one + b"\r\n" for one in hostile]


@pytest.fixture
def certificate(tmp_path):
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    made.cert_chain_pems[0].write_to_path(str(paths[0]))
    made.private_key_pem.write_to_path(str(paths[1]))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.check_hostname = False
    return paths, context


async def test_passwords_and_tls(world, certificate, counts):
    """Nothing before STARTTLS, nothing without the password; then the mail, which says who sent it."""
    (cert, key), context = certificate
    settings = {"certificate": cert, "key": key, "require_tls": True, "users": {"ada": b"s3cret"}}

    def login(password):
        def then(client):
            client.starttls(context=context)
            client.login("ada", password)

        return then

    async with serving(world, **settings) as port:
        with pytest.raises(smtplib.SMTPException):
            await send(port, mail())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await send(port, mail(), then=login("wrong"))
        with pytest.raises(smtplib.SMTPException):
            await send(port, mail(), then=lambda client: client.starttls(context=context))
        await send(port, mail(), then=login("s3cret"))

    (fact,) = await world.facts("email.received")
    data = await world.data(fact)
    assert (data["login"], data["tls"]) == ("ada", True)
    assert counts.get("trigger-refused", seam="mail", reason="password")


async def test_a_stop_lets_a_mail_in_hand_end(world, monkeypatch):
    """The mail that is being stored when SIGTERM comes gets its 250; whoever is idle hears 421."""
    storing, go_on = asyncio.Event(), asyncio.Event()
    publish = world.bus.publish

    async def slowly(*args, **kwargs):
        storing.set()
        await go_on.wait()
        return await publish(*args, **kwargs)

    monkeypatch.setattr(world.bus, "publish", slowly)
    server = MailServer(MailBox(listen=("127.0.0.1", 0), recipients=("*",)), world.intake("mail"))
    async with world.running(server) as where:
        port = int(where["mail"].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        sending = asyncio.create_task(talk(port, *HELLO, b"Subject: x\r\n\r\n.\r\n"))
        await storing.wait()
        where["triggers"].stop()
        go_on.set()
        assert (await sending)[-1] == "250"
        assert (await reader.readline()).startswith(b"421")
        writer.close()

    assert len(await world.facts("email.received")) == 1


async def test_too_many_connections_are_told_so(world, monkeypatch):
    """The one above the limit hears 421 and goes; the others go on."""
    monkeypatch.setattr(module, "_CONNECTIONS", 1)
    async with serving(world) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"220")
        assert await talk(port) == ["421"]
        writer.write(b"NOOP\r\n")
        assert (await reader.readline()).startswith(b"250")
        writer.close()


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"recipients": ()}, "recipients"),
        ({"recipients": ("reports",)}, "recipients"),
        ({"users": {"ada": b"x"}}, "users"),
        ({"require_tls": True}, "require_tls"),
    ],
)
def test_what_makes_no_mail_box_is_said(settings, where):
    """The error names the setting."""
    with pytest.raises(ConfigurationError) as refused:
        MailBox(**{"recipients": ("*",), **settings})
    assert refused.value.where == where
