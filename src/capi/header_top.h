/*
 * ahoy.h: the socket server that C programs link.                       libahoy @VERSION@
 *
 *     #include <ahoy.h>
 *     int main(void) { return ahoy_serve("tcp://0.0.0.0:8888", "Hello from server"); }
 *
 * is a whole server: on every core, bounded, with a graceful stop. Build it with
 *
 *     cc hello.c $(pkg-config --cflags --libs ahoy)        or        cc hello.c -lahoy
 *
 * Rules that hold for everything below:
 *
 *  - Threads. Every function may be called from any thread unless its comment says otherwise.
 *    The callbacks of one connection never run at the same time and keep their order.
 *  - Handles are small values. Zero is "none". A stale, forged or zero handle gives
 *    AHOY_ERR_STALE; freeing one does nothing. Nothing is ever undefined.
 *  - Lifetimes. Memory passed in is copied before the call returns, unless the comment says that it
 *    is taken over. Memory passed to a callback lives until the callback returns.
 *  - Callbacks may send, close, stop and free whatever they like, their own connection and server
 *    included. A call that would have to wait answers AHOY_ERR_DEADLOCK there instead of hanging.
 *  - Structs start with `size`: set it to sizeof the struct, and leave the rest zero for the defaults.
 *  - Your process is yours: no signal handlers, no SIGPIPE, no printing, no environment. Worker threads
 *    block every signal (but those of a fault, such as SIGSEGV), all descriptors are close-on-exec, and
 *    a child after fork() is told AHOY_ERR_FORKED. (`ahoy_serve` and `ahoy_perror` are the two that say
 *    otherwise.) A child that was forked in a callback must not return from it on a worker thread: it
 *    is ended by _exit(0) if it does.
 *
 * Addresses are URLs: tcp://0.0.0.0:8888, tcp://[::]:0 (port 0: any free one), tcp://localhost:80,
 * unix:/run/a.sock, unix:@name (Linux's abstract names), udp://0.0.0.0:5353, unixgram:/run/b.sock, fd:3,
 * systemd:, systemd:name. IPv6 listeners take IPv6 only, so that a server can listen on tcp://0.0.0.0:80 and
 * tcp://[::]:80 at once. On a datagram socket each peer address is a connection, with an idle time.
 *
 * This file is generated from the library's source: do not edit it.
 */
#ifndef AHOY_H
#define AHOY_H

#include <stddef.h>
#include <stdint.h>

/** Version of this header; `ahoy_version` tells the library's. */
#define AHOY_VERSION "@VERSION@"
#define AHOY_VERSION_MAJOR @MAJOR@
#define AHOY_VERSION_MINOR @MINOR@
#define AHOY_VERSION_PATCH @PATCH@

#ifdef __cplusplus
extern "C" {
#endif

