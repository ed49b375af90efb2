/*
 * proxy: a TCP relay. Whoever connects to LISTEN_URL talks to TARGET_URL; of several targets the next one stands
 * in for one that does not answer. Neither side can fill the memory: who sends faster than the other reads
 * has to wait.
 *
 *     cc -o proxy proxy.c $(pkg-config --cflags --libs ahoy)
 *     ./proxy tcp://0.0.0.0:8080 tcp://10.0.0.1:80,tcp://10.0.0.2:80
 *
 * A client and its target are two connections. ahoy_connect is called in a callback, so both have the same worker,
 * and no message changes threads or takes a lock. Each one's user data is the handle of the other, which is a
 * number: there is nothing to free, and it does not matter which of the two goes first.
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <signal.h>
#include <stdio.h>

#if UINTPTR_MAX < UINT64_MAX
#error "a handle does not fit into a pointer here"
#endif

/*
 * Who has made the other's queue `high_bytes` long is paused, so that at most one more message, which is what one
 * read gave, comes on top of them: no send is refused. The limits are the product of all that.
 */
enum { pairs_max = 5000, message_bytes_max = 256 << 10, high_bytes = 512 << 10, low_bytes = 128 << 10 };
enum { queue_bytes_max = high_bytes + message_bytes_max };

static const char *targets;

static void *user_of(ahoy_conn other) { return (void *)(uintptr_t)other.id; }

static ahoy_conn other_of(void *user)
{
    ahoy_conn other = { (uintptr_t)user };
    return other;
}

static void on_open(ahoy_conn conn, void *user)
{
    ahoy_connect_options options = { .size = sizeof options, .user = user_of(conn) };
    ahoy_conn target;

    if (user != NULL) return; /* a target: its client is waiting */
    /* The handle is good before the target has answered: what the client says meanwhile is queued. */
    if (ahoy_connect(ahoy_conn_server(conn), targets, &options, &target) != AHOY_OK) ahoy_conn_abort(conn);
    else if (ahoy_conn_set_user(conn, user_of(target), NULL) != AHOY_OK) ahoy_conn_abort(target);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user)
{
    ahoy_conn other = other_of(user);

    if (ahoy_send(other, data, len) != AHOY_OK) ahoy_conn_abort(conn); /* the other is gone, or no memory */
    else if (ahoy_conn_queued(other) >= high_bytes) ahoy_conn_pause(conn);
}

static void on_writable(ahoy_conn conn, void *user)
{
    (void)conn;
    ahoy_conn_resume(other_of(user));
}

static void on_end(ahoy_conn conn, void *user)
{
    (void)conn;
    ahoy_conn_end(other_of(user)); /* behind what is queued; the way back stays open */
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user)
{
    (void)conn;
    /* Half an answer must not look like a whole one: what was broken off here is broken off there. */
    if (reason == AHOY_OK || reason == AHOY_ERR_EOF || reason == AHOY_ERR_STOPPED) ahoy_conn_close(other_of(user));
    else ahoy_conn_abort(other_of(user));
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .on_open = on_open, .on_message = on_message,
        .on_writable = on_writable, .on_end = on_end, .on_close = on_close, .connections_max = 2 * pairs_max,
        .message_bytes_max = message_bytes_max, .queue_bytes_max = queue_bytes_max,
        .queue_high_bytes = high_bytes, .queue_low_bytes = low_bytes,
        .queue_total_bytes_max = 2ULL * pairs_max * queue_bytes_max };
    ahoy_server server;
    char address[128];
    sigset_t signals;

    if (argc != 3) return fprintf(stderr, "usage: proxy LISTEN_URL TARGET_URL[,TARGET_URL...]\n"), 2;
    options.listen = argv[1];
    targets = argv[2];
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* so that Ctrl-C ends the wait, not the process */
    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address)) return ahoy_perror("proxy"), 1;
    fprintf(stderr, "proxy: listening on %s\n", address);
    int got;
    sigwait(&signals, &got);
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(server);
    return ahoy_server_free(server), 0;
}
