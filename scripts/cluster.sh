#!/usr/bin/env bash
# The demonstration: three NATS servers, and three chat servers on top of them, as if on six machines. Each pair has a
# network namespace of its own where that is permitted, else a loopback address of its own. Ends with Ctrl-C.
# usage: cluster.sh [--check]      --check: shows that it works, kills one of each, shows that it goes on, and ends
#                                  NAMESPACES=0: no namespaces
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}
case $#,${1:-} in
    0, | 1,--check) check=${1:-} ;;
    1,-h | 1,--help) sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0"; exit ;;
    *) echo "usage: cluster.sh [--check]      (not \"$*\")" >&2; exit 2 ;;
esac
nats=$(command -v target/python/bin/nats-server || command -v nats-server) ||
    fail "there is no nats-server: make cluster installs one"
for example in chat watch; do
    [ -x c_examples/build/$example ] || fail "c_examples/build/$example is not there: make examples builds it"
done

folder=$(mktemp -d)
bridge=ahoy-demo
namespaces=
declare -A pids commands

# The hosts, and what somebody who was killed may have left of them. Cables go by themselves only when nothing runs on
# their hosts any more, and the reader may have started something there.
remove_hosts() {
    for n in 1 2 3; do
        ip link delete "ahoy-veth$n" 2>/dev/null || true
        ip netns delete "$bridge-$n" 2>/dev/null || true
    done
}

# Whether a process is there and ours: the number of one that was killed may be a stranger's by now.
is_ours() {
    local parent
    { read -r _ _ _ parent _ <"/proc/$1/stat"; } 2>/dev/null && [ "$parent" = $$ ]
}

# Everything that was started is ended, whatever has happened, and however often Ctrl-C is pressed.
clean_up() {
    trap '' INT TERM
    disown -a
    for pid in "${pids[@]}"; do if is_ours "$pid"; then kill -9 "$pid"; fi; done
    for pid in "${pids[@]}"; do while is_ours "$pid"; do sleep 0.01; done; done
    if [ -n "$namespaces" ]; then
        remove_hosts
        ip link delete "$bridge" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 0' INT TERM

# A bridge here, and behind it three hosts. Who has made the bridge has the names of all of them.
make_hosts() {
    ip link add "$bridge" type bridge || return 1
    namespaces=1
    remove_hosts
    ip address add 10.77.77.254/24 dev "$bridge" && ip link set "$bridge" up || return 1
    for n in 1 2 3; do
        ip netns add "$bridge-$n" && ip link add "ahoy-veth$n" type veth peer name eth0 netns "$bridge-$n" &&
            ip link set "ahoy-veth$n" master "$bridge" up &&
            ip -n "$bridge-$n" address add "10.77.77.$n/24" dev eth0 &&
            ip -n "$bridge-$n" link set eth0 up && ip -n "$bridge-$n" link set lo up || return 1
    done
}
if [ "${NAMESPACES:-1}" != 0 ]; then
    if ip link show "$bridge" >/dev/null 2>&1; then
        fail "$bridge is there: another one runs (or was killed: ip link delete $bridge)"
    elif ! make_hosts 2>"$folder/ip.log"; then
        echo "cluster.sh: addresses of the loopback instead of namespaces: $(head -n 1 "$folder/ip.log")" >&2
        if [ -n "$namespaces" ]; then
            remove_hosts
            ip link delete "$bridge" 2>/dev/null || true
            namespaces=
        fi
    fi
fi
host() { if [ -n "$namespaces" ]; then echo "10.77.77.$1"; else echo "127.77.77.$1"; fi; }

# Starts a command on a host, under a name. Bash forgets the job, or it would say each time that one was killed.
start() {
    local name=$1 n=$2
    shift 2
    [ -z "$namespaces" ] || set -- ip netns exec "$bridge-$n" "$@"
    commands[$name]=$*
    "$@" >"$folder/$name.log" 2>&1 &
    pids[$name]=$!
    disown
}

servers=$(host 1):4222,$(host 2):4222,$(host 3):4222
start_nats() {
    local n=$1
    cat >"$folder/nats$n.conf" <<CONF
server_name: nats$n
listen: $(host "$n"):4222
ping_interval: "2s", ping_max: 2
jetstream { store_dir: "$folder/store$n", max_memory_store: 64MB, max_file_store: 1GB }
cluster { name: demo, listen: $(host "$n"):6222,
  routes: [ nats-route://$(host 1):6222, nats-route://$(host 2):6222, nats-route://$(host 3):6222 ] }
CONF
    start "nats$n" "$n" "$nats" -c "$folder/nats$n.conf"
}
start_chat() { start "chat$1" "$1" c_examples/build/chat "tcp://$(host "$1"):9000" "nats://$servers/demo"; }

# Waits until a file says something, as long as who writes it runs.
wait_for() {
    local file=$1 text=$2 pid=${pids[$3]} tries=0
    until grep -q "$text" "$file" 2>/dev/null; do
        tries=$((tries + 1))
        if [ "$tries" = 600 ] || ! kill -0 "$pid" 2>/dev/null; then
            cat "$file" >&2
            fail "$3 has not said \"$text\""
        fi
        sleep 0.05
    done
}

for n in 1 2 3; do start_nats $n; done
for n in 1 2 3; do wait_for "$folder/nats$n.log" 'Server is ready' nats$n; done
for n in 1 2 3; do start_chat $n; done
for n in 1 2 3; do wait_for "$folder/chat$n.log" 'listening on' chat$n; done

if [ "$check" = --check ]; then
    # Somebody on each node, as long as the check lasts.
    for n in 1 2 3; do
        mkfifo "$folder/say$n"
        nc -N "$(host $n)" 9000 <"$folder/say$n" >"$folder/heard$n" 2>/dev/null &
        pids[nc$n]=$!
        disown
        eval "exec 1$n>\"$folder/say$n\""
        wait_for "$folder/heard$n" Welcome nc$n
    done
    all_heard() {
        local text=$1 n
        shift
        for n in "$@"; do grep -q "$text" "$folder/heard$n" || return 1; done
    }
    # Said again until everybody has heard it: a topic takes a moment to reach a node, also after a loss.
    everybody_hears() {
        local text=$1 from=$2 tries=0
        shift 2
        until all_heard "$text" "$@"; do
            tries=$((tries + 1))
            [ "$tries" -lt 200 ] || fail "\"$text\" was not heard"
            echo "$text" >&"1$from"
            sleep 0.1
        done
        echo "heard on nodes $*: $text"
    }
    everybody_hears "hello from one" 1 1 2 3
    kill -9 "${pids[nats1]}"
    everybody_hears "after a NATS server was killed" 1 1 2 3
    kill -9 "${pids[chat2]}"
    everybody_hears "after a chat server was killed" 3 1 3
    exit 0
fi

cat <<TEXT

Three NATS servers and three chat servers run, $([ -n "$namespaces" ] && echo "each pair in a network namespace" || echo "each pair on an address of its own"). Talk from several terminals:

    nc $(host 1) 9000        nc $(host 2) 9000        nc $(host 3) 9000

Any NATS client takes part: nats --server $(host 1) pub demo.topic.lobby "hello from outside"
Watch it:       c_examples/build/watch nats://$servers/demo lobby
Kill any of them, and it goes on (a client of a chat server that is gone has to call another):

$(for name in nats1 nats2 nats3 chat1 chat2 chat3; do echo "    kill -9 ${pids[$name]}        # $name"; done)
$([ -z "$namespaces" ] || echo "    ip -n $bridge-1 link set eth0 down        # cuts the first pair off (up: back again)")

What was killed comes back in a terminal of its own, in this folder; Ctrl-C there ends it:

$(for name in nats1 nats2 nats3 chat1 chat2 chat3; do echo "    ${commands[$name]}"; done)

Ctrl-C here ends all the others.
TEXT
sleep infinity &
pids[rest]=$!
wait
