/*
 * talk: a conversation with a server, kept up. What you type goes there line by line, what it says is printed; when
 * it is gone the connection is opened again as soon as somebody answers. Ctrl-D hangs up.
 *
 *     cc -o talk talk.c $(pkg-config --cflags --libs ahoy)
 *     ./talk tcp://127.0.0.1:9000    several URLs, with commas between: the first that answers
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_open(ahoy_conn conn, void *user)
{
    char peer[128];

    (void)user;
    if (ahoy_conn_peer(conn, peer, sizeof peer) == AHOY_OK) fprintf(stderr, "talk: connected to %s\n", peer);
}

static void on_down(ahoy_conn conn, ahoy_status reason, void *user)
{
    (void)conn, (void)user;
    fprintf(stderr, "talk: %s\n", ahoy_status_text(reason));
}

static void on_message(ahoy_conn conn, const void *line, size_t len, void *user)
{
    (void)conn, (void)user;
    fwrite(line, 1, len, stdout);
    putchar('\n');
    fflush(stdout);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user)
{
    (void)reason, (void)user;
    ahoy_server_stop(ahoy_conn_server(conn), 0); /* ends the wait below */
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .workers = 1, .framing = AHOY_FRAMING_LINES,
        .on_open = on_open, .on_message = on_message, .on_close = on_close }; /* listens nowhere */
    ahoy_connect_options persistent = { .size = sizeof persistent, .reconnect = 1, .on_down = on_down,
        .reconnect_max_ms = 5000 };
    ahoy_server server;
    ahoy_conn conn;
    char *line = NULL;
    size_t capacity = 0;

    if (argc != 2) return fprintf(stderr, "usage: talk URL[,URL...]\n"), 2;
    if (ahoy_server_start(&options, &server) ||
        ahoy_connect(server, argv[1], &persistent, &conn)) return ahoy_perror("talk"), 1;
    while (getline(&line, &capacity, stdin) >= 0) {
        size_t len = strcspn(line, "\n"); /* the framing adds the end */
        if (ahoy_send(conn, line, len) != AHOY_OK) ahoy_perror("talk"); /* nobody there, and the queue is full */
    }
    free(line);
    ahoy_conn_close(conn); /* when what is queued is out */
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
