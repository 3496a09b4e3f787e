"""Fetches mail as Python's own examples do, remembering UIDLs in a file."""
import os
import poplib
import sys

port, user, password, inbox, seen_file, purpose, removable = sys.argv[1:]
poplib._MAXLINE = 1 << 24  # its own limit of 2048 octets refuses RFC 5322's longest lines less one

seen = set()
if os.path.exists(seen_file):
    with open(seen_file) as f:
        seen = set(f.read().split())

pop = poplib.POP3("127.0.0.1", int(port), timeout=60)
pop.user(user)
pop.pass_(password)
count, octets = pop.stat()
sizes = [int(line.split()[1]) for line in pop.list()[1]]
assert len(sizes) == count, f"STAT says {count} messages, LIST {len(sizes)}"
assert sum(sizes) == octets, f"STAT says {octets} octets, LIST {sum(sizes)}"

for line in pop.uidl()[1]:
    number, uid = line.decode("ascii").split()
    number = int(number)
    if purpose == "remove" or uid not in seen:
        lines = pop.retr(number)[1]
        message = b"".join(line + b"\r\n" for line in lines)
        octets = int(pop.list(number).split()[2])
        assert len(message) == octets, f"message {number}: LIST says {octets}, RETR sent {len(message)}"
        with open(os.path.join(inbox, str(number)), "wb") as f:
            f.write(message)
        seen.add(uid)
    if purpose == "remove":
        pop.dele(number)
    elif purpose == "some":
        if any(removable.encode() in line for line in pop.top(number, 0)[1]):
            pop.dele(number)
pop.quit()

with open(seen_file, "w") as f:
    f.write("\n".join(sorted(seen)))
