#!/usr/bin/env python3
"""Prints the public ABI of a C header as text, one fact in a line: the functions and callbacks with their types,
the sizes of all structs with the places of their fields, and the numbers of all constants.

The compiler says what the sizes and numbers are; this only finds out what to ask. usage: abi_record.py HEADER
"""

import os
import re
import subprocess
import sys
import tempfile

PRELUDE = "#include <stdio.h>\n"


def preprocess(header, *options):
    command = [os.environ.get("CC", "cc"), "-E", *options, header]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def own_lines(text, header):
    """The lines that come from the header itself, not from the system's headers that it includes."""
    inside = False
    for line in text.splitlines():
        marker = re.match(r'# \d+ "(.*?)"', line)
        if marker:
            inside = marker[1] == header
        elif inside:
            yield line


def declarations(header):
    """Every declaration at the top level, in one line each."""
    text = " ".join(own_lines(preprocess(header), header))
    depth, start = 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if letter == ";" and depth == 0:
            yield re.sub(r"\s+", " ", text[start:at]).strip()
            start = at + 1


def print_number(label, expression):
    return f'    printf("{label} %lld\\n", (long long)({expression}));\n'


def record(header):
    functions, callbacks, questions = [], [], ""
    for declaration in declarations(header):
        compound = re.match(r"typedef (struct|enum) (\w+) \{(.*)\} \w+$", declaration)
        if not compound:
            kind = callbacks if declaration.startswith("typedef") else functions
            kind.append(declaration)
            continue
        kind, name, body = compound.groups()
        questions += print_number(f"{kind} {name}: size", f"sizeof({name})")
        if kind == "enum":
            for constant in re.findall(r"\w+(?= =)", body):
                questions += print_number(constant, constant)
        else:
            for field_type, field in re.findall(r"\s*(.*?)\s*(\w+);", body):
                label = f"    {name}.{field}: {field_type}, at"
                questions += print_number(label, f"offsetof({name}, {field})")
    for constant, value in sorted(re.findall(r"^#define (AHOY_\w+) (.+)$", preprocess(header, "-dM"), re.M)):
        if re.fullmatch(r"-?\d+", value) and not constant.startswith("AHOY_VERSION"):
            questions += print_number(constant, constant)

    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "ask.c"), os.path.join(folder, "ask")
        with open(source, "w", encoding="utf-8") as file:
            file.write(f'{PRELUDE}#include "{os.path.abspath(header)}"\nint main(void)\n{{\n{questions}}}\n')
        subprocess.run([os.environ.get("CC", "cc"), "-o", program, source], check=True)
        numbers = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return "\n".join(sorted(functions) + sorted(callbacks)) + "\n" + numbers


print("# The public ABI of libahoy on x86-64. `make abi` writes this file, a test compares it. Once released, lines may be")
print("# added, also fields at the end of a struct that starts with its size; none may change otherwise, and none may go.")
print(record(sys.argv[1]), end="")
