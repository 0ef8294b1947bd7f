"""What servers and clients do inside a namespace, in a child of the test process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, TextIO

_KINDS = {"tcp": (socket.SOCK_STREAM, 6), "udp": (socket.SOCK_DGRAM, 17), "sctp": (socket.SOCK_STREAM, 132)}


def serve(told: TextIO, end: socket.socket, name: str, protocol: str, address: str, port: int) -> None:
    """Answer each connection, or each datagram, with one line of JSON."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, *_KINDS[protocol]) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        if protocol == "udp":
            # So that the answer comes from the address that was asked: IP_PKTINFO, IPV6_RECVPKTINFO (linux/in.h).
            listener.setsockopt(*((41, 49) if family == socket.AF_INET6 else (0, 8)), 1)
        else:
            listener.listen(128)
        print(listener.getsockname()[1], file=told, flush=True)
        while end not in select.select([listener, end], [], [])[0]:
            _answer_one(listener, name, protocol)


def _answer_one(listener: socket.socket, name: str, protocol: str) -> None:
    def answer(peer: tuple[Any, ...], text: bytes) -> bytes:
        about = {"server": name, "peer": peer[0], "peer_port": peer[1], "text": text.decode()}
        return json.dumps(about).encode() + b"\n"

    if protocol == "udp":
        text, [(level, kind, info)], _, peer = listener.recvmsg(65536, 256)
        info = info[:16] + bytes(4) if level == socket.IPPROTO_IPV6 else bytes(4) + info[4:]
        listener.sendmsg([answer(peer, text)], [(level, kind, info)], 0, peer)
        return
    connection, peer = listener.accept()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(2)
        text = connection.recv(65536)
        connection.sendall(answer(peer, text) if text else b"")


def serve_many(told: TextIO, end: socket.socket, ports: Sequence[int]) -> None:
    """Answer over tcp and udp on many ports, on all addresses of both families, with the peer's address."""
    sockets = []
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(socket.AF_INET6, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO (linux/in6.h)
            sock.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(64)
            sockets.append(sock)
    print("ready", file=told, flush=True)
    while end not in (readable := select.select([*sockets, end], [], [])[0]):
        for sock in readable:
            if sock.type == socket.SOCK_STREAM:
                connection, peer = sock.accept()
                with connection:
                    connection.sendall(peer[0].encode())
            else:
                _, [(level, number, info)], _, peer = sock.recvmsg(100, 256)
                sock.sendmsg([peer[0].encode()], [(level, number, info[:16] + bytes(4))], 0, peer)


def listen(told: TextIO, end: socket.socket, address: str, port: int, protocol: str) -> None:
    """Hold a port, and tell the pid of who does."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as holder:
        holder.bind((address, port))
        if protocol == "tcp":
            holder.listen()
        print(os.getpid(), file=told, flush=True)
        end.recv(1)


def ask(address: str, port: int, protocol: str, text: str, source: str, timeout_s: float) -> dict[str, Any]:
    """Send a line to a server and return its answer, or {no} with the reason why there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, *_KINDS[protocol]) as client:
        client.settimeout(timeout_s)
        try:
            if source:
                client.bind((source, 0))
            client.connect((address, port))
            client.sendall(text.encode())
            received = client.recv(65536)
            answer: dict[str, Any] = json.loads(received) if received else {"no": "closed without an answer"}
        except OSError as error:
            return {"no": str(error)}
    return answer


def silent(addresses: Sequence[str], within_s: float) -> list[str]:
    """Ping over one raw socket: sixteen at a time, since each first ping floods an ARP request to all ports."""
    waiting = dict.fromkeys(addresses)
    deadline = time.monotonic() + within_s
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(0.1)
        echo = struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - 1, 1, 0)
        while waiting and time.monotonic() < deadline:
            window = list(waiting)[:16]
            for address in window:
                with contextlib.suppress(OSError):
                    raw.sendto(echo, (address, 0))
            left = set(window)
            while left:
                try:
                    packet, (sender, _) = raw.recvfrom(256)
                except TimeoutError:
                    break
                if packet[(packet[0] & 15) * 4] == 0:  # an echo reply
                    waiting.pop(sender, None)
                    left.discard(sender)
            waiting.update({address: waiting.pop(address) for address in left if address in waiting})
    return list(waiting)
