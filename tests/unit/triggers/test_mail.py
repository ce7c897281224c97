"""Mails as data: what ordinary ones say, and hostile ones that cost little and break nothing."""

from __future__ import annotations

import email.message
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.triggers.mail import read_mail


def mail(text="Hello", **headers):
    made = email.message.EmailMessage()
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(text)
    return made


def test_an_ordinary_mail_is_read():
    """Decoded headers, text, HTML, attachments with their bytes; nothing is a defect."""
    made = mail("Grüße\n", Subject="Bericht für März", From="Ada <ada@desk.example>", Message_ID="<1@desk.example>")
    made.add_alternative("<p>Grüße</p>", subtype="html")
    made.add_attachment(b"\x00\x01", maintype="application", subtype="pdf", filename="../../März 1.pdf")

    read = read_mail(made.as_bytes())

    assert (read.subject, read.author, read.message_id) == (
        "Bericht für März",
        "Ada <ada@desk.example>",
        "<1@desk.example>",
    )
    assert (read.text, read.html.strip()) == ("Grüße\n", "<p>Grüße</p>")
    assert [(one.name, one.type, one.data) for one in read.attachments] == [
        ("März 1.pdf", "application/pdf", b"\x00\x01")
    ]
    assert read.defects == []


def test_a_forwarded_mail_is_an_attachment():
    """It is not mixed up with the mail's own text."""
    made = mail("See below")
    made.add_attachment(mail("Inner", Subject="Old"))

    read = read_mail(made.as_bytes())

    assert read.text.strip() == "See below"
    assert [one.type for one in read.attachments] == ["message/rfc822"]
    assert b"Inner" in read.attachments[0].data


def test_the_body_is_the_same_whatever_a_relay_writes_above_it():
    """A relay adds headers; what tells a repetition must not change."""
    content = mail("x", Subject="s").as_bytes()

    assert read_mail(b"Received: by relay\r\n" + content).body == read_mail(content).body
    assert read_mail(content).body != read_mail(content + b"y").body


@pytest.mark.parametrize(
    ("content", "defect"),
    [
        (b"Subject: =?punycode?b?" + b"YQ" * 4000 + b"?=\r\n\r\n", "charset"),
        (b"Content-Type: text/plain; charset=idna\r\n\r\n" + b"a" * 500_000, "charset"),
        (b"Content-Type: text/plain; charset=unicode_escape\r\n\r\n\\x41", "charset"),
        (b"Content-Type: text/plain; charset=\xff\r\n\r\n\xff", "charset"),
        (b"Content-Type: text/plain; charset=zlib\r\n\r\nx", "charset"),
        (b"Subject: " + b"x" * 100_000 + b"\r\n\r\n", "long-header"),
        (b"".join(b"X-%d: y\r\n" % n for n in range(600)) + b"\r\n", "many-headers"),
        (b"".join(b"X-%d: y\r\n" % n for n in range(200_000)) + b"\r\n", "too-complex"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 200_000, "too-complex"),
        (
            b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(3000)),
            "too-complex",
        ),
        (b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(40)), "deep"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            + b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n" * 200,
            "many-attachments",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_mail_costs_little_and_is_named(content, defect):
    """Within a few seconds, with the defect named; nothing raises."""
    began = time.process_time()

    read = read_mail(content)

    assert defect in read.defects
    assert time.process_time() - began < 5


@given(
    st.lists(
        st.sampled_from(
            [
                b"Subject: ",
                b"=?utf-8?b?",
                b"?=",
                b"Content-Type: multipart/mixed; boundary=b",
                b"\r\n",
                b"\r\n\r\n",
                b"--b",
                b"--b--",
                b"Content-Transfer-Encoding: base64",
                b"Content-Disposition: attachment; filename*=",
                b"filename*0*=utf-8''%FF",
                b"message/rfc822",
                b"Content-Type: ",
                b";",
                b'"',
                b"\xff\xfe",
                b"\x00",
                b"=",
                b"text/html; charset=",
                b"utf-16",
                b"<a@b>",
                b"Message-ID: ",
                b"[",
                b"\n",
                b" ",
            ]
        ),
        max_size=40,
    )
)
def test_no_bytes_break_it(pieces):
    """Whatever comes is read; texts can be written as JSON in UTF-8."""
    read = read_mail(b"".join(pieces))

    for text in (read.subject, read.text, read.html, read.message_id, *(one.name for one in read.attachments)):
        text.encode()
    for one in read.attachments:
        assert one.name
        assert not set("/\\\x00") & set(one.name)
