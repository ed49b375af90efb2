#!/usr/bin/env python3
"""Takes the C out of a document, each block as a file that compiles.

usage: snippets.py DOCUMENT FOLDER

A block that includes something is a whole file. Any other gets the includes and the names that it takes for granted
(GIVEN, and what a comment "<!-- given: … -->" right before it says); a block marked "c body" is the inside of a function.
"""

import pathlib
import re
import sys

GIVEN = """
#include <ahoy.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>
"""
GIVEN_IN_BODIES = """
extern ahoy_server server;
extern ahoy_server_options options;
extern ahoy_conn conn;
"""
BLOCK = re.compile(r"(?:^<!-- given:\n(?P<given>.*?)^-->\n)?^```c(?P<body> body)?\n(?P<code>.*?)^```$", re.M | re.S)


def main(document, folder):
    text = pathlib.Path(document).read_text()
    count = 0
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("code")) + 1
        code = f'#line {line} "{document}"\n{block["code"]}'
        if block["body"]:
            given = f"{GIVEN}{GIVEN_IN_BODIES}{block['given'] or ''}"
            code = f"{given}void body(void);\nvoid body(void)\n{{\n{code}}}\n"
        elif "#include" not in code:
            code = f"{GIVEN}{block['given'] or ''}{code}"
        pathlib.Path(folder, f"{pathlib.Path(document).stem}-{line}.c").write_text(code)
        count += 1
    if count != len(re.findall(r"^```c\b", text, re.M)) or count == 0:
        sys.exit(f"{document}: a block was not understood")


main(*sys.argv[1:])
