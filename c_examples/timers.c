/*
 * timers: one timer of the server, which says once a second how many are connected, and one of each connection,
 * which asks "still there?" after a silence and hangs up after another. Ctrl-C ends it.
 *
 *     cc -o timers timers.c $(pkg-config --cflags --libs ahoy)
 *     ./timers                       listens on tcp://127.0.0.1:9000, a silence is 10,000 ms;
 *     ./timers tcp://127.0.0.1:0 500 another URL, another silence
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct client { ahoy_timer patience; int asked; }; /* no lock: all callbacks of a connection run one by one */

static uint32_t silence_ms = 10000;

static void on_silence(ahoy_timer timer, ahoy_conn conn, void *user)
{
    struct client *client = user;
    const char *words = client->asked ? "bye" : "still there?";

    (void)timer; /* it goes on by itself, every silence_ms */
    ahoy_send(conn, words, strlen(words));
    if (client->asked) ahoy_conn_close(conn); /* which ends its timer, too */
    client->asked = 1;
}

static void wait_for_more(ahoy_conn conn, struct client *client)
{
    client->asked = 0;
    ahoy_timer_cancel(client->patience); /* the first time there is none yet: AHOY_ERR_STALE does not matter */
    if (ahoy_conn_timer_start(conn, silence_ms, silence_ms, on_silence, client, NULL, &client->patience))
        ahoy_conn_close(conn);
}

static void on_open(ahoy_conn conn, void *user)
{
    struct client *client = calloc(1, sizeof *client);

    (void)user;
    if (client == NULL || ahoy_conn_set_user(conn, client, free) != AHOY_OK) {
        free(client);
        ahoy_conn_close(conn);
        return;
    }
    wait_for_more(conn, client);
}

static void on_message(ahoy_conn conn, const void *line, size_t len, void *user)
{
    ahoy_send(conn, line, len);
    wait_for_more(conn, user);
}

static void on_second(ahoy_timer timer, ahoy_conn conn, void *user)
{
    const ahoy_server *server = user;
    ahoy_stats stats = { .size = sizeof stats };

    (void)timer, (void)conn; /* conn.id is 0: it is a timer of the server */
    if (ahoy_server_stats(*server, &stats) == AHOY_OK)
        printf("%llu connected\n", (unsigned long long)stats.connections);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .framing = AHOY_FRAMING_LINES,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000", .on_open = on_open, .on_message = on_message };
    ahoy_server server;
    char address[128];
    sigset_t signals;

    if (argc > 2) silence_ms = (uint32_t)strtoul(argv[2], NULL, 10);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address) ||
        ahoy_timer_start(server, 0, 1000, on_second, &server, NULL, NULL)) return ahoy_perror("timers"), 1;
    fprintf(stderr, "timers: listening on %s\n", address);
    int got;
    sigwait(&signals, &got);
    ahoy_server_free(server); /* ends all connections and timers */
    return 0;
}
