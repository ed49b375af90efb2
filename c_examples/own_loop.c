/*
 * own_loop: no thread but the program's own. poll(2) waits for the server and for the keyboard: what
 * the clients say is printed, what you type goes to all of them, Ctrl-D stops.
 *
 *     cc -o own_loop own_loop.c $(pkg-config --cflags --libs ahoy)
 *     ./own_loop                     listens on tcp://127.0.0.1:9000; another URL may follow
 */
#include <ahoy.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static ahoy_conn clients[64]; /* no lock: every callback runs inside ahoy_server_turn */
static size_t client_count;

static void on_open(ahoy_conn conn, void *user)
{
    (void)user;
    clients[client_count++] = conn; /* connections_max keeps it in bounds */
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)conn, (void)user;
    fwrite(data, 1, len, stdout);
    fflush(stdout);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user)
{
    (void)reason, (void)user;
    for (size_t i = 0; i < client_count; i++)
        if (clients[i].id == conn.id) clients[i] = clients[--client_count];
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000", .workers = AHOY_WORKERS_NONE,
        .on_open = on_open, .on_message = on_message, .on_close = on_close,
        .connections_max = sizeof clients / sizeof *clients };
    struct pollfd waits[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .events = POLLIN } };
    ahoy_server server;
    char text[1024];

    if (ahoy_server_start(&options, &server) || ahoy_server_fd(server, &waits[1].fd) ||
        ahoy_server_address(server, 0, text, sizeof text)) return ahoy_perror("own_loop"), 1;
    fprintf(stderr, "own_loop: listening on %s\n", text);
    do {
        ssize_t n = 0;
        if (poll(waits, 2, -1) < 0) continue; /* a signal */
        if (waits[0].revents != 0 && (n = read(waits[0].fd, text, sizeof text)) <= 0) {
            waits[0].fd = -1; /* Ctrl-D */
            ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
        }
        for (size_t i = 0; n > 0 && i < client_count; i++) ahoy_send(clients[i], text, (size_t)n);
    } while (ahoy_server_turn(server, 0) == AHOY_OK);
    return ahoy_server_free(server), 0;
}
