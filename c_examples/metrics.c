/*
 * metrics: an echo server, and what it has done, for Prometheus: GET /metrics from a second server, which stays
 * reachable when the first is full.
 *
 *     cc -o metrics metrics.c $(pkg-config --cflags --libs ahoy)
 *     ./metrics                      echoes on tcp://127.0.0.1:9000, tells on tcp://127.0.0.1:9001;
 *     ./metrics tcp://127.0.0.1:0 tcp://127.0.0.1:0   other URLs
 *
 * From another terminal:  curl http://127.0.0.1:9001/metrics
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void echo(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    if (ahoy_send(conn, data, len) != AHOY_OK) ahoy_conn_close(conn);
}

/*
 * The first line of a request is enough to answer it; the rest is thrown away by the close. Framing as lines fits
 * both ways: lines of HTTP end with CRLF, and the LF that the frame adds is the last byte of the response.
 */
static void answer(ahoy_conn conn, const void *line, size_t len, void *user)
{
    static const char wanted[] = "GET /metrics ", not_found[] = "HTTP/1.0 404 Not Found\r\n\r";
    const ahoy_server *observed = user;
    char head[128], text[16 << 10];
    size_t text_len;

    if (len < strlen(wanted) || memcmp(line, wanted, strlen(wanted)) != 0) {
        ahoy_send(conn, not_found, strlen(not_found));
    } else if (ahoy_metrics_text(*observed, text, sizeof text, &text_len) == AHOY_OK) {
        int head_len = snprintf(head, sizeof head, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n"
            "Content-Type: text/plain; version=0.0.4\r\n\r\n", text_len);
        ahoy_part parts[] = { { head, (size_t)head_len }, { text, text_len - 1 } }; /* it ends with a LF itself */
        ahoy_send_parts(conn, parts, sizeof parts / sizeof *parts);
    }
    ahoy_conn_close(conn);
}

static int start(const ahoy_server_options *options, ahoy_server *server)
{
    char address[128];

    if (ahoy_server_start(options, server) ||
        ahoy_server_address(*server, 0, address, sizeof address)) return ahoy_perror("metrics"), 0;
    fprintf(stderr, "metrics: listening on %s\n", address);
    return 1;
}

int main(int argc, char **argv)
{
    ahoy_server observed, observer;
    ahoy_server_options echoes = { .size = sizeof echoes, .on_message = echo,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000" };
    ahoy_server_options tells = { .size = sizeof tells, .on_message = answer, .user = &observed,
        .listen = argc > 2 ? argv[2] : "tcp://127.0.0.1:9001", .framing = AHOY_FRAMING_LINES,
        .workers = 1, .connections_max = 64, .message_bytes_max = 32 << 10, .idle_ms = 10000 };
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (!start(&echoes, &observed) || !start(&tells, &observer)) return 1;
    int got;
    sigwait(&signals, &got);
    ahoy_server_stop(observed, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(observed);
    ahoy_server_free(observer); /* first the one that asks the other */
    ahoy_server_free(observed);
    return 0;
}
