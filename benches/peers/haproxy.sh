#!/bin/sh
# haproxy: HAProxy as one of the peers.
#
#     haproxy relay LISTEN_FD TARGET_PORT           relays TCP with one thread
#     haproxy relay-splice LISTEN_FD TARGET_PORT    the same, with splice(2), which it does not use by itself
#     haproxy version
set -eu
case ${1:-} in
    version) haproxy -v | sed -n '1s/ version//; 1s/ [0-9/]* - .*//p' ;;
    relay | relay-splice)
        SPLICE=
        if [ "$1" = relay-splice ]; then SPLICE=1; fi
        export SPLICE LISTEN_FD="$2" TARGET_PORT="$3"
        exec haproxy -q -db -f "$(dirname "$0")/haproxy.cfg"
        ;;
    *)
        echo "usage: $0 relay LISTEN_FD TARGET_PORT | relay-splice LISTEN_FD TARGET_PORT | version" >&2
        exit 2
        ;;
esac
