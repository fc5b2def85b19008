#!/usr/bin/env python3
"""Writes the exact tar of an image's layers, read from `cstor serve`, and checks it.

    read_layer.py SOCKET IMAGE DIRECTORY

Only sockets and recvmsg(2) are needed: JSON objects follow one another on the
connection, "fds" says how many descriptors belong to one, and they arrive in
order. Nothing of this is fast; it shows the protocol.
"""

import base64
import hashlib
import json
import os
import socket
import sys

MOST_DESCRIPTORS = 253  # of one sendmsg(2) on Linux


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.text = ""
        self.bytes = b""
        self.descriptors = []
        self.last_id = 0

    def request(self, method, **params):
        self.last_id += 1
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": self.last_id}
        self.socket.sendall(json.dumps(request).encode())

    def message(self):
        """The next message and its descriptors."""
        while True:
            parsed = self.parse()
            if parsed is not None:
                wanted = parsed.get("fds", 0)
                while len(self.descriptors) < wanted:
                    self.receive()  # further batches ride on spaces
                files, self.descriptors = self.descriptors[:wanted], self.descriptors[wanted:]
                return parsed, files
            self.receive()

    def parse(self):
        text = self.text.lstrip()
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            return None  # not all of it is there
        self.text = text[end:]
        return value

    def receive(self):
        space = socket.CMSG_SPACE(MOST_DESCRIPTORS * 4)
        data, control, flags, _ = self.socket.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, numbers in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                count = len(numbers) // 4
                self.descriptors += memoryview(numbers[: count * 4]).cast("i").tolist()
        if flags & socket.MSG_CTRUNC:
            raise SystemExit("descriptors were lost: raise ulimit -n")
        if not data:
            raise SystemExit("the server has closed the connection")
        # A character may be cut in two; what is cut waits for the rest.
        self.bytes += data
        decoded = self.bytes.decode("utf-8", "ignore")
        self.text += decoded
        self.bytes = self.bytes[len(decoded.encode()) :]

    def answer(self, method, **params):
        self.request(method, **params)
        message, files = self.message()
        if "error" in message:
            raise SystemExit(f"{method}: {message['error']['message']}")
        return message["result"], files


def write_layer(connection, handle, digest, path):
    """The tar of one layer, put together from header bytes and files."""
    connection.request("GetLayerTarSplit", image_id=handle, layer_digest=digest)
    sha256 = hashlib.sha256()
    count = 0
    with open(path, "wb") as out:
        while True:
            message, files = connection.message()
            if "error" in message:
                raise SystemExit(f"{digest}: {message['error']['message']}")
            if "result" in message:
                break
            params = message["params"]
            if message["method"] == "layer.segment":
                pieces = [base64.b64decode(params["data"])]
            elif message["method"] == "layer.file":
                count += 1
                pieces = contents(files[0], params["size"])
            elif message["method"] == "layer.end":
                if params["files_sent"] != count:
                    raise SystemExit(f"{digest}: {count} files of {params['files_sent']} came")
                continue
            else:
                continue
            for piece in pieces:
                out.write(piece)
                sha256.update(piece)
    found = "sha256:" + sha256.hexdigest()
    if found != digest:
        raise SystemExit(f"{digest}: the tar has the digest {found}")


def contents(descriptor, size):
    """A descriptor is shared with the server: it is read at offsets of our own."""
    offset = 0
    try:
        while offset < size:
            piece = os.pread(descriptor, min(size - offset, 1 << 20), offset)
            if not piece:
                raise SystemExit("a file is shorter than its header says")
            offset += len(piece)
            yield piece
    finally:
        os.close(descriptor)


def main():
    path, image, directory = sys.argv[1:]
    connection = Connection(path)
    connection.answer("Initialize", version=2)
    opened, _ = connection.answer("OpenImage", image_ref=image)
    for number, layer in enumerate(opened["layers"]):
        target = os.path.join(directory, f"{number}.tar")
        write_layer(connection, opened["image_id"], layer["diff_id"], target)
        print(layer["diff_id"], target)
    connection.answer("CloseImage", image_id=opened["image_id"])
    connection.answer("shutdown")


main()
