"""Writes torrents with strange names into a folder, and prints those that libtorrent reads.

For each a line `torrent PATH INFO-HASH`, then for each file a line `file PATH`, or `pad PATH`, as libtorrent would lay
it in a folder, in hexadecimal.
"""

import random
import sys

import libtorrent as lt

PARTS = [
    b"a", b"b", b"A", b"file.txt", b"FILE.TXT", b"file.1.txt", b"x.tar.gz", b".hidden", b"_", b"dir", b"Dir",
    b"", b".", b"..", b"...", b"/", b"\\", b"a/b", b"../a", b"./.", b"/a", b"a\\b", b"a ", b"a.", b" ",
    b"\0", b"a\0b", b"\n", b"\x1b[2J", b"\x7f", b"what: *?.txt", b"CON", b"nul.txt", b"a|b<c>\"d\"",
    "n\u00e4me".encode(), "na\u0308me".encode(), "N\u00c4ME".encode(), "\u65e5\u672c".encode(), "\U0001f331".encode(),
    "\u202etxt.exe".encode(), "\u200f".encode(), "\ufffd".encode(), "\u212a".encode(),
    b"\xe9", b"\xe9" * 100 + b".mkv", b"\xff\xfe", b"a\xe4\xb8", b"\xc0\x80x", b"\xed\xa0\x80", b"\xf8abcdefgh",
    b"\xf4\x90\x80\x80", b"\x82\xa0\x82\xa2.txt", b"_____padding_file_0_",
]


def string(text):
    return b"%d:%s" % (len(text), text)


def strings(texts):
    return b"l" + b"".join(string(text) for text in texts) + b"e"


def component(rng):
    kind = rng.random()
    if kind < 0.75:
        return rng.choice(PARTS)
    if kind < 0.85:
        letter = rng.choice([b"n", "\u00e9".encode(), "\u20ac".encode(), "\U0001f331".encode()])
        extension = rng.choice([b"", b".mkv", b".12345678", b".123456789", b". "])
        return letter * (rng.choice([230, 238, 239, 240, 241, 256, 600]) // len(letter)) + extension
    return bytes(rng.randrange(256) for _ in range(rng.randrange(12)))


def path(rng):
    depth = rng.choice([1, 1, 1, 2, 2, 3, 5])
    if rng.random() < 0.03:
        depth = 30
    return [component(rng) for _ in range(depth)]


def torrent(rng):
    single = rng.random() < 0.15
    name = b"folder" if rng.random() < 0.5 else component(rng)
    info = [(b"name", string(name))]
    if rng.random() < 0.1:
        info.append((b"name.utf-8", rng.choice([string(component(rng)), b"le"])))
    total = 0
    if single:
        total = 100
        info.append((b"length", b"i100e"))
    else:
        files, seen = [], []
        for _ in range(rng.choice([1, 2, 3, 5, 20])):
            again = seen and rng.random() < 0.2
            seen.append(rng.choice(seen) if again else path(rng))
            length = rng.choice([0, 1, 7, 50])
            keys = [(b"length", b"i%de" % length), (b"path", strings(seen[-1]))]
            if rng.random() < 0.1:
                odd = rng.choice([strings(path(rng)), b"le", b"i1e", b"l0:e"])
                keys.append((b"path.utf-8", odd))
            if rng.random() < 0.05:
                keys.append((b"attr", string(b"p")))
                if rng.random() < 0.3:
                    keys = [key for key in keys if key[0] != b"path"]
            total += length
            files.append(b"d" + b"".join(string(k) + v for k, v in sorted(keys)) + b"e")
        info.append((b"files", b"l" + b"".join(files) + b"e"))
    info.append((b"piece length", b"i16384e"))
    info.append((b"pieces", string(b"h" * 20 * -(-total // 16384))))
    return b"d4:infod" + b"".join(string(k) + v for k, v in sorted(info)) + b"ee"


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    for place in range(count):
        document = torrent(rng)
        where = "%s/%d.torrent" % (folder, place)
        with open(where, "wb") as file:
            file.write(document)
        try:
            info = lt.torrent_info(document)
        except RuntimeError:
            continue
        print("torrent", where, info.info_hashes().v1)
        files = info.files()
        for at in range(files.num_files()):
            kind = "pad" if files.file_flags(at) & lt.file_flags_t.flag_pad_file else "file"
            print(kind, files.file_path(at).encode(errors="surrogateescape").hex())


main()
