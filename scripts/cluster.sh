#!/usr/bin/env bash
# The demonstration: three NATS servers, and three chat servers on top of them, as if on six machines. Each pair has a
# network namespace of its own where that is permitted, else a loopback address of its own. Ends with Ctrl-C.
# usage: cluster.sh [--check]      --check: shows that it works, kills one of each, shows that it goes on, and ends
#                                  NAMESPACES=0: no namespaces
set -euo pipefail
cd "$(dirname "$0")/.."

check=${1:-}
folder=$(mktemp -d)
nats=$(command -v target/python/bin/nats-server || command -v nats-server)
bridge=ahoy-demo
declare -A pids

# Everything that was started is ended, whatever has happened.
clean_up() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ -n "${namespaces:-}" ]; then
        for n in 1 2 3; do ip netns delete "$bridge-$n" 2>/dev/null || true; done
        ip link delete "$bridge" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 0' INT TERM

# A bridge here, and behind it three hosts.
make_hosts() {
    ip link add "$bridge" type bridge && ip address add 10.77.77.254/24 dev "$bridge" && ip link set "$bridge" up || return 1
    for n in 1 2 3; do
        ip netns add "$bridge-$n" && ip link add "ahoy-veth$n" type veth peer name eth0 netns "$bridge-$n" &&
            ip link set "ahoy-veth$n" master "$bridge" up &&
            ip -n "$bridge-$n" address add "10.77.77.$n/24" dev eth0 &&
            ip -n "$bridge-$n" link set eth0 up && ip -n "$bridge-$n" link set lo up || return 1
    done
}
namespaces=1
if [ "${NAMESPACES:-1}" = 0 ]; then
    namespaces=
elif ! make_hosts 2>"$folder/ip.log"; then
    clean_up
    folder=$(mktemp -d)
    namespaces=
fi
host() { if [ -n "$namespaces" ]; then echo "10.77.77.$1"; else echo "127.77.77.$1"; fi; }
on_host() {
    local n=$1
    shift
    if [ -n "$namespaces" ]; then exec ip netns exec "$bridge-$n" "$@"; else exec "$@"; fi
}

servers=$(host 1):4222,$(host 2):4222,$(host 3):4222
start_nats() {
    local n=$1
    cat >"$folder/nats$n.conf" <<CONF
server_name: nats$n
listen: $(host "$n"):4222
jetstream { store_dir: "$folder/store$n", max_memory_store: 64MB, max_file_store: 1GB }
cluster { name: demo, listen: $(host "$n"):6222,
  routes: [ nats-route://$(host 1):6222, nats-route://$(host 2):6222, nats-route://$(host 3):6222 ] }
CONF
    (on_host "$n" "$nats" -c "$folder/nats$n.conf" >"$folder/nats$n.log" 2>&1) &
    pids[nats$n]=$!
}
start_chat() {
    (on_host "$1" c_examples/build/chat "tcp://$(host "$1"):9000" "nats://$servers/demo" 2>"$folder/chat$1.log") &
    pids[chat$1]=$!
}

# Waits until a file says something.
wait_for() {
    local tries=0
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || { echo "cluster.sh: \"$2\" is not in $1:" >&2; cat "$1" >&2; exit 1; }
        sleep 0.05
    done
}

for n in 1 2 3; do start_nats $n; done
for n in 1 2 3; do wait_for "$folder/nats$n.log" 'Server is ready'; done
for n in 1 2 3; do start_chat $n; done
for n in 1 2 3; do wait_for "$folder/chat$n.log" 'listening on'; done

if [ "$check" = --check ]; then
    # Somebody on each node, as long as the check lasts.
    for n in 1 2 3; do
        mkfifo "$folder/say$n"
        nc -N "$(host $n)" 9000 <"$folder/say$n" >"$folder/heard$n" 2>/dev/null &
        pids[nc$n]=$!
        eval "exec 1$n>\"$folder/say$n\""
        wait_for "$folder/heard$n" Welcome
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
            [ "$tries" -lt 200 ] || { echo "cluster.sh: \"$text\" was not heard" >&2; exit 1; }
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
$([ -n "$namespaces" ] && echo "    ip -n $bridge-1 link set eth0 down        # cuts the first pair off (up: back again)")
Ctrl-C ends all of it.
TEXT
wait
