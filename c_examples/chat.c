/*
 * chat: everyone's line goes to everyone. Try it from several terminals: nc 127.0.0.1 9000
 *
 *     cc -o chat chat.c $(pkg-config --cflags --libs ahoy)
 *     ./chat                         listens on tcp://127.0.0.1:9000; another URL may follow, and behind it a
 *                                    cluster's: nats://10.0.0.1,10.0.0.2/chat makes one room of many machines
 */
#include <ahoy.h>
#include <stdio.h>
#include <string.h>

static void say(ahoy_conn conn, const void *line, size_t len, void *user)
{
    char name[64] = "", text[1024]; /* what does not fit is cut */
    (void)user, ahoy_conn_peer(conn, name, sizeof name);
    snprintf(text, sizeof text, "%s: %.*s", name, (int)len, (const char *)line);
    ahoy_publish(ahoy_conn_server(conn), "lobby", text, strlen(text));
}

static void enter(ahoy_conn conn, void *user)
{
    ahoy_send(conn, "Welcome.", 8);
    say(conn, "(comes in)", 10, user);
    ahoy_conn_join(conn, "lobby");
}

static void leave(ahoy_conn conn, ahoy_status reason, void *user) { (void)reason, say(conn, "(leaves)", 8, user); }

/* Of a cluster: this node is in it, or why it is not. */
static void stand(ahoy_server server, int32_t state, ahoy_status reason, void *user)
{
    const char *how = state == AHOY_CLUSTER_JOINING ? "joining" : state == AHOY_CLUSTER_DISCONNECTED ? "cut off" : "joined";
    (void)server, (void)user;
    fprintf(stderr, "chat: %s%s%s\n", how, reason ? ": " : "", reason ? ahoy_last_error() : "");
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000",
        .framing = AHOY_FRAMING_LINES, .on_open = enter, .on_message = say, .on_close = leave,
        .cluster = argc > 2 ? argv[2] : NULL, .on_cluster_state = stand };
    ahoy_server server;
    char address[128];
    if (ahoy_server_start(&options, &server) || ahoy_server_address(server, 0, address, sizeof address))
        return ahoy_perror("chat"), 1;
    return fprintf(stderr, "chat: listening on %s\n", address), ahoy_server_wait(server);
}
