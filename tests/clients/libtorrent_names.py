"""Writes torrents with strange names into a folder, and prints those that libtorrent reads.

Each torrent gets a line `torrent PATH INFO-HASH KIND`, then each of its files a line `file PATH` or `pad PATH`: the path
under which libtorrent would lay it in a folder, in hexadecimal. KIND is `alike` if libtorrent lays two files under names
that some disk takes for the same, otherwise `apart`.
"""

import hashlib
import random
import sys
import unicodedata

import libtorrent as lt

PARTS = [
    b"a", b"b", b"A", b"file.txt", b"FILE.TXT", b"file.1.txt", b"x.tar.gz", b".hidden", b"_", b"dir", b"Dir",
    b"", b".", b"..", b"...", b"/", b"\\", b"a/b", b"../a", b"./.", b"/a", b"a\\b", b"a ", b"a.", b" ",
    b"\0", b"a\0b", b"\n", b"\x1b[2J", b"\x7f", b"what: *?.txt", b"CON", b"nul.txt", b"a|b<c>\"d\"",
    "n\u00e4me".encode(), "na\u0308me".encode(), "N\u00c4ME".encode(), "\u65e5\u672c".encode(), "\U0001f331".encode(),
    "\u202etxt.exe".encode(), "\u200f".encode(), "\ufffd".encode(), "\u212a".encode(),
    b"\xe9", b"\xe9" * 100 + b".mkv", b"\xff\xfe", b"a\xe4\xb8", b"\xc0\x80x", b"\xed\xa0\x80", b"\xf8abcdefgh",
    b"\xf4\x90\x80\x80", b"\x82\xa0\x82\xa2.txt", b"_____padding_file_0_",
    # Trailing dots and spaces, and what some disks take for the same.
    b"file.txt.", b"file.txt ", b"file.txt..", b". .", b".. ", b" ..", b"a.1", b"a.1.1", b"A.1", b"_.1", b"_ ", b"dir.",
    b"dir ", b"~", b"-", b"$(x)", b"a%00b", b"a\r\nb", b"\t", b"\x85", b"\xc2\x85", b"\xef\xbb\xbfa", b"\xc2\xa0",
    b"con", b"CON.", b"CON .txt", b"com1.tar.gz", b"LPT9", b"aux.h", b"COM\xc2\xb9", b"CONIN$", b"file.txt:stream",
    b"C:", b"C:\\x", b"\\\\server\\share", b"//x", b"a//b", b"..\\x", b"\0..", b"..\0", b".\0.", b"/..", b"../",
    # Names that differ only in case or composition.
    "\u00e9.txt".encode(), "e\u0301.txt".encode(), "\u00c9.TXT".encode(), "E\u0301.txt".encode(), "\u00df".encode(),
    "ss".encode(), "SS".encode(), "\u1e9e".encode(), "\u0130".encode(), "i\u0307".encode(), "\u0131".encode(), b"I", b"i",
    "\u03c3".encode(), "\u03c2".encode(), "\u03a3".encode(), b"k", b"K", "\u212b".encode(), "\u00e5".encode(), "A\u030a".encode(),
    "\ufb01".encode(), b"fi", "\uac00".encode(), "\u1100\u1161".encode(), "a\u0323\u0307".encode(), "a\u0307\u0323".encode(),
    "\u0301".encode(), "\u0344".encode(), "\u0958".encode(), "\u0915\u093c".encode(), "\U0001d15e".encode(),
    "\u200b".encode(), "a\u200bb".encode(), "\u00ada".encode(), "\ufeff".encode(), "\u2028".encode(), "\u2066a".encode(),
    "\uff0f".encode(), "\u2215".encode(), "\ufffe".encode(), "\U0010ffff".encode(), "\u0600".encode(), "\U000e0041".encode(),
    # Names that everseed and other clients use for files of their own.
    b".pad", b".pad/5", b"a.part", b"a.!qB", b"lost+found", b".everseed", b".torrent", b"_____padding_file", b"0123456789abcdef",
    b"_____padding_file_1_if you see this file, please update to BitComet 0.85 or above____",
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
        extension = rng.choice([b"", b".mkv", b".12345678", b".123456789", b". ", b".", b".\xe9", "\u00e9.\u20ac".encode()])
        lengths = [230, 238, 239, 240, 241, 250, 255, 256, 600, 1020, 1024, 1025, 5000]
        before = rng.choice([b"", b"", b"a", b"\xe9", b"."])
        return before + letter * (rng.choice(lengths) // len(letter)) + extension
    if kind < 0.9:
        letters = "aA\u00e9e\u0301E\u00c9.. \u212bkK\u212a\u0323\u0307"
        return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 5))).encode()
    return bytes(rng.randrange(256) for _ in range(rng.choice([1, 2, 3, 5, 11, 11, 300])))


def path(rng):
    depth = rng.choice([1, 1, 1, 2, 2, 3, 5])
    if rng.random() < 0.03:
        depth = rng.choice([0, 10, 30, 90])
    return [component(rng) for _ in range(depth)]


def likeness(rng, parts):
    """The same path, or one that a disk or client may take for the same."""
    parts = list(parts)
    kind, at = rng.randrange(9), rng.randrange(len(parts)) if parts else 0
    if not parts or kind < 3:
        return parts
    if kind == 3:
        parts[at] = parts[at].swapcase()
    elif kind == 4:
        text = parts[at].decode(errors="surrogateescape")
        form = unicodedata.normalize(rng.choice(["NFC", "NFD"]), text)
        parts[at] = form.encode(errors="surrogateescape")
    elif kind == 5:
        parts[at] += rng.choice([b".", b" ", b"\0", b"/", b"\\", "\u200e".encode()])
    elif kind == 6:
        parts.append(component(rng))
    elif kind == 7:
        parts.pop()
    else:
        parts.insert(at, rng.choice([b"", b".", b".."]))
    return parts


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
            again = seen and rng.random() < 0.3
            seen.append(likeness(rng, rng.choice(seen)) if again else path(rng))
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


def path_of(files, at):
    """The path as bytes, because libtorrent may cut it within a character when it appends a number."""
    try:
        return files.file_path(at).encode(errors="surrogateescape")
    except UnicodeDecodeError as error:
        return error.object


def are_alike(paths):
    """Whether two paths, or folders of them, differ only in case, composition, or dots and spaces at their ends, or one
    path is also a folder of another."""
    seen = {}
    for path in paths:
        exact = folded = b""
        for part in path.split(b"/"):
            exact += b"/" + part
            folded += b"/" + fold(part)
            kind = exact, exact != b"/" + path
            if seen.setdefault(folded, kind) != kind:
                return True
    return False


def fold(part):
    part = (part.rstrip(b". ") or part).decode(errors="replace")
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).lower()).encode()


def content_of(files):
    """The content of all files: the numbers from 0 to 250 again and again, and zeros in padding files."""
    content = b""
    for at in range(files.num_files()):
        end = len(content) + files.file_size(at)
        if files.file_flags(at) & lt.file_flags_t.flag_pad_file:
            content = content.ljust(end, b"\0")
        content += bytes(n % 251 for n in range(len(content), end))
    return content


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
        content = content_of(info.files())
        document = document.replace(b"h" * 20, hashlib.sha1(content).digest())
        with open(where, "wb") as file:
            file.write(document)
        info = lt.torrent_info(document)
        files = info.files()
        paths = [path_of(files, at) for at in range(files.num_files())]
        print("torrent", where, info.info_hashes().v1, "alike" if are_alike(paths) else "apart")
        for at in range(files.num_files()):
            kind = "pad" if files.file_flags(at) & lt.file_flags_t.flag_pad_file else "file"
            print(kind, paths[at].hex())


main()
