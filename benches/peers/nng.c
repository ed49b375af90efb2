/*
 * nng: its streams, as its manual describes them: one asynchronous operation receives into the connection's buffer, and when
 * it is done another one sends that back. The library has threads of its own; all of them share the one CPU.
 */
#include <nng/nng.h>
#include <unistd.h>

#include "peer.h"

struct conn {
    nng_stream *stream;
    nng_aio *receiving, *sending;
    char *answer; /* what is still to be sent of it */
    size_t answer_len;
    size_t partial_len; /* the beginning of a message, in front of what is received next */
    char buffer[PEER_READ_BYTES];
    char messages[]; /* as much; mode framed only */
};

static nng_stream_listener *listener;
static nng_aio *accepting;
static enum { ECHO, GREET, FRAMED } mode;

static void check(int error, const char *what)
{
    if (error)
        peer_die(what, nng_strerror(error));
}

/* The aio whose callback this is may be among them: a thread of nng's frees them later. */
static void hang_up(struct conn *conn)
{
    nng_stream_free(conn->stream);
    nng_aio_reap(conn->sending);
    nng_aio_reap(conn->receiving);
    free(conn);
}

static void receive(struct conn *conn)
{
    nng_iov room = { conn->buffer + conn->partial_len, sizeof conn->buffer - conn->partial_len };
    check(nng_aio_set_iov(conn->receiving, 1, &room), "nng_aio_set_iov");
    nng_stream_recv(conn->stream, conn->receiving);
}

static void answer(struct conn *conn, char *bytes, size_t len)
{
    nng_iov part = { bytes, len };
    conn->answer = bytes;
    conn->answer_len = len;
    check(nng_aio_set_iov(conn->sending, 1, &part), "nng_aio_set_iov");
    nng_stream_send(conn->stream, conn->sending);
}

static void answer_messages(struct conn *conn, size_t len)
{
    ssize_t done = peer_answer_messages(conn->messages, conn->buffer, len);
    if (done < 0) {
        hang_up(conn);
        return;
    }
    conn->partial_len = len - (size_t)done;
    memmove(conn->buffer, conn->buffer + done, conn->partial_len);
    if (done > 0)
        answer(conn, conn->messages, (size_t)done);
    else
        receive(conn);
}

static void on_received(void *user)
{
    struct conn *conn = user;
    size_t len = conn->partial_len + nng_aio_count(conn->receiving);
    if (nng_aio_result(conn->receiving))
        hang_up(conn);
    else if (mode == FRAMED)
        answer_messages(conn, len);
    else if (mode == GREET)
        answer(conn, (char *)PEER_GREETING, PEER_GREETING_BYTES);
    else
        answer(conn, conn->buffer, len);
}

static void on_sent(void *user)
{
    struct conn *conn = user;
    size_t sent = nng_aio_count(conn->sending);
    if (nng_aio_result(conn->sending))
        hang_up(conn);
    else if (sent < conn->answer_len)
        answer(conn, conn->answer + sent, conn->answer_len - sent);
    else if (mode == GREET)
        hang_up(conn);
    else
        receive(conn);
}

static void on_connection(void *user)
{
    (void)user;
    check(nng_aio_result(accepting), "nng_stream_listener_accept");
    struct conn *conn = malloc(sizeof *conn + (mode == FRAMED ? PEER_READ_BYTES : 0));
    if (!conn)
        peer_die("malloc", "no memory");
    conn->stream = nng_aio_get_output(accepting, 0);
    conn->partial_len = 0;
    check(nng_aio_alloc(&conn->receiving, on_received, conn), "nng_aio_alloc");
    check(nng_aio_alloc(&conn->sending, on_sent, conn), "nng_aio_alloc");
    receive(conn);
    nng_stream_listener_accept(listener, accepting);
}

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof version, "nng %s", nng_version());
    struct peer peer = peer_arguments(argc, argv, "echo greet framed ", version);
    mode = !strcmp(peer.mode, "greet") ? GREET : !strcmp(peer.mode, "framed") ? FRAMED : ECHO;

    char url[64];
    int port;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", peer.port);
    check(nng_stream_listener_alloc(&listener, url), "nng_stream_listener_alloc");
    check(nng_stream_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true), NNG_OPT_TCP_NODELAY);
    check(nng_stream_listener_listen(listener), "nng_stream_listener_listen");
    check(nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), NNG_OPT_TCP_BOUND_PORT);
    check(nng_aio_alloc(&accepting, on_connection, NULL), "nng_aio_alloc");
    nng_stream_listener_accept(listener, accepting);
    peer_listens((unsigned)port);
    for (;;)
        pause();
}
