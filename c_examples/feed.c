/*
 * feed: what this program reads goes to everyone who is connected, from the program's own thread. Who reads too
 * slowly is let go instead of holding up the others. The end of the input is the end of the program.
 *
 *     cc -o feed feed.c $(pkg-config --cflags --libs ahoy)
 *     tail -f /var/log/syslog | ./feed   listens on tcp://127.0.0.1:9000; another URL may follow
 *
 * From another terminal:  nc 127.0.0.1 9000
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_open(ahoy_conn conn, void *user)
{
    (void)user;
    ahoy_conn_join(conn, "feed");
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)conn, (void)data, (void)len, (void)user; /* they listen; we do not */
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .framing = AHOY_FRAMING_LINES,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000", .on_open = on_open, .on_message = on_message,
        .overflow = AHOY_OVERFLOW_CLOSE };
    ahoy_server server;
    char address[128], *line = NULL;
    size_t capacity = 0;

    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address)) return ahoy_perror("feed"), 1;
    fprintf(stderr, "feed: listening on %s\n", address);
    while (getline(&line, &capacity, stdin) >= 0) {
        line[strcspn(line, "\n")] = '\0'; /* the framing adds it again */
        if (ahoy_publish(server, "feed", line, strlen(line)) != AHOY_OK) ahoy_perror("feed");
    }
    free(line);
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT); /* what is queued still goes out */
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
