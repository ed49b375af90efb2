/*
 * framed_echo: whole messages instead of bytes. Each comes with its length in front (four bytes, big-endian) and
 * goes back the same way; a client that sends without reading is not read from until it has caught up.
 *
 *     cc -o framed_echo framed_echo.c $(pkg-config --cflags --libs ahoy)
 *     ./framed_echo                  listens on tcp://127.0.0.1:9000; another URL may follow:
 *     ./framed_echo 'tcp://127.0.0.1:9000?framing=length&length_bytes=2,unix:/tmp/echo?framing=lines'
 *
 * From another terminal:  ./client --framing length tcp://127.0.0.1:9000 over and over
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>

/*
 * A connection with `high_bytes` queued is paused at once. So at most one message comes on top of them, and a
 * send finds room as long as the queue may be longer than both together.
 */
enum { message_bytes_max = 1 << 20, high_bytes = 256 << 10, frame_bytes_max = 64 };

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    if (ahoy_send(conn, data, len) != AHOY_OK) ahoy_conn_abort(conn); /* out of memory: no echo with a hole */
    else if (ahoy_conn_queued(conn) >= high_bytes) ahoy_conn_pause(conn);
}

static void on_writable(ahoy_conn conn, void *user)
{
    (void)user;
    ahoy_conn_resume(conn);
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .framing = AHOY_FRAMING_LENGTH,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000", .on_message = on_message,
        .on_writable = on_writable, .message_bytes_max = message_bytes_max, .queue_high_bytes = high_bytes,
        .queue_bytes_max = high_bytes + message_bytes_max + frame_bytes_max };
    ahoy_server server;
    char address[128];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (ahoy_server_start(&options, &server)) return ahoy_perror("framed_echo"), 1;
    for (size_t i = 0; ahoy_server_address(server, i, address, sizeof address) == AHOY_OK; i++)
        fprintf(stderr, "framed_echo: listening on %s\n", address);
    int got;
    sigwait(&signals, &got);
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
