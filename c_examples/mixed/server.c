/*
 * mixed: a C server whose messages a Rust function answers. `make` builds both languages and links the
 * program twice: server with libahoy.so, server-static with libahoy.a.
 *
 *     make && ./build/server         listens on tcp://127.0.0.1:9000; another URL may follow
 */
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>

/* shout/src/lib.rs: upper case; the length written, 0 if it does not fit */
size_t shout(const void *text, size_t len, void *out, size_t capacity);

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    size_t capacity = 3 * len; /* no letter grows more than threefold */
    char *loud = malloc(capacity);
    (void)user;

    if (loud == NULL || ahoy_send(conn, loud, shout(data, len, loud, capacity)) != AHOY_OK)
        ahoy_conn_close(conn);
    free(loud);
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .on_message = on_message,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000" };
    ahoy_server server;
    char address[128];

    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address)) return ahoy_perror("mixed"), 1;
    fprintf(stderr, "mixed: listening on %s\n", address);
    return ahoy_server_wait(server) == AHOY_OK ? 0 : 1;
}
