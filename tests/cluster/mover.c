/*
 * Clients that move.
 *
 *     mover node CLUSTER-URL NAME [CA|- [HOST [ADVERTISE]]]
 *                                           an echo server that listens under "echo", on 127.0.0.1 or HOST; in "members"
 *     mover clients TARGET COUNT            so many connections, each of which asks again and again
 *     mover ask TARGET TEXT [IDEMPOTENT]    ahoy_request, once
 *     mover inside CLUSTER-URL TARGET [CA]  ahoy_connect by a node of the cluster, which asks once
 *
 * The clients: in "report", "clear"; out "served COUNT longest MILLISECONDS downs TIMES": how many are served, the
 * longest time that any waited for an answer since it was first served, or since "clear", and how often one was lost.
 */
#include <ahoy.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLIENTS_MAX = 1000, EVERY_MS = 20 };

static struct client {
    atomic_long answered_ms, longest_ms;
    atomic_bool is_down;
} clients[CLIENTS_MAX];

static atomic_long downs;

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) { (void)user, ahoy_send(conn, data, len); }

static void show(ahoy_server server, const ahoy_member *member, void *user)
{
    (void)server, (void)user;
    printf("listed %s %s\n", member->node, member->addresses), fflush(stdout);
}

static int node(const char *url, const char *name, const char *ca, const char *host,
    const char *advertise)
{
    char address[128], line[64], listen[128];
    snprintf(listen, sizeof listen, "tcp://%s:0?name=echo&framing=lines", host ? host : "127.0.0.1");
    ahoy_cluster_options particulars = { .size = sizeof particulars, .node = name, .join_ms = 5000,
        .ca_file = ca, .advertise = advertise };
    ahoy_server_options options = { .size = sizeof options, .listen = listen, .workers = 1,
        .on_message = echo, .cluster = url, .cluster_options = &particulars };
    ahoy_server server;
    if (ahoy_server_start(&options, &server)) return printf("failed %s\n", ahoy_last_error()), 1;
    ahoy_server_address(server, 0, address, sizeof address);
    printf("ready %s\n", address), fflush(stdout);
    while (fgets(line, sizeof line, stdin)) ahoy_members(server, show, NULL, NULL);
    return ahoy_server_stop(server, 1000), ahoy_server_wait(server);
}

static void ask(ahoy_timer timer, ahoy_conn conn, void *user) { (void)timer, (void)user, ahoy_send(conn, "hi", 2); }

static void answered(ahoy_conn conn, const void *data, size_t len, void *user)
{
    struct client *client = user;
    long now = now_ms(), waited = now - client->answered_ms;
    (void)conn, (void)data, (void)len;
    if (client->answered_ms && waited > client->longest_ms) client->longest_ms = waited;
    client->answered_ms = now;
    client->is_down = false;
}

static void lost(ahoy_conn conn, ahoy_status reason, void *user)
{
    struct client *client = user;
    (void)conn, (void)reason;
    if (!client->is_down) downs++;
    client->is_down = true;
}

static int many(const char *target, int count)
{
    char line[64];
    ahoy_server_options options = { .size = sizeof options, .workers = 2, .framing = AHOY_FRAMING_LINES,
        .on_message = answered };
    ahoy_server server;
    if (ahoy_server_start(&options, &server)) return printf("failed %s\n", ahoy_last_error()), 1;
    for (int i = 0; i < count; i++) {
        ahoy_connect_options upstream = { .size = sizeof upstream, .connect_ms = 2000, .reconnect = 1,
            .reconnect_min_ms = 20, .reconnect_max_ms = 200, .on_down = lost,
            .user = &clients[i] };
        ahoy_conn conn;
        if (ahoy_connect(server, target, &upstream, &conn) ||
            ahoy_conn_timer_start(conn, EVERY_MS, EVERY_MS, ask, NULL, NULL, NULL))
            return printf("failed %s\n", ahoy_last_error()), 1;
    }
    puts("ready"), fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        int served = 0;
        long longest = 0, now = now_ms();
        for (int i = 0; i < count; i++) {
            if (!strcmp(line, "clear\n")) clients[i].longest_ms = 0;
            if (clients[i].answered_ms && !clients[i].is_down && now - clients[i].answered_ms < 300) served++;
            if (clients[i].longest_ms > longest) longest = clients[i].longest_ms;
        }
        printf("served %d longest %ld downs %ld\n", served, longest, (long)downs), fflush(stdout);
    }
    ahoy_server_free(server);
    return 0;
}

static int once(const char *target, const char *text, int idempotent)
{
    char answer[1024];
    ahoy_request_options options = { .size = sizeof options, .framing = AHOY_FRAMING_LINES, .timeout_ms = 3000,
        .idempotent = idempotent };
    ahoy_status status = ahoy_request(target, &options, text, strlen(text), answer, sizeof answer, NULL);
    if (status) return printf("failed %s: %s\n", ahoy_status_name(status), ahoy_last_error()), 1;
    return printf("answer %s\n", answer), 0;
}

static void tell(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user;
    printf("answer %.*s\n", (int)len, (const char *)data), fflush(stdout);
    ahoy_conn_close(conn);
}

static void ended(ahoy_conn conn, ahoy_status reason, void *user)
{
    (void)user;
    if (reason) printf("failed %s\n", ahoy_status_name(reason)), fflush(stdout);
    ahoy_server_stop(ahoy_conn_server(conn), 1000);
}

static int inside(const char *url, const char *target, const char *ca)
{
    ahoy_cluster_options particulars = { .size = sizeof particulars, .join_ms = 5000, .ca_file = ca };
    ahoy_server_options options = { .size = sizeof options, .workers = 1, .framing = AHOY_FRAMING_LINES,
        .on_message = tell, .on_close = ended, .cluster = url, .cluster_options = &particulars };
    ahoy_server server;
    ahoy_conn conn;
    if (ahoy_server_start(&options, &server)) return printf("failed %s\n", ahoy_last_error()), 1;
    if (ahoy_connect(server, target, NULL, &conn) || ahoy_send(conn, "hi", 2))
        return printf("failed %s\n", ahoy_last_error()), 1;
    return ahoy_server_wait(server);
}

int main(int argc, char **argv)
{
    const char *ca = argc > 4 && strcmp(argv[4], "-") ? argv[4] : NULL;
    if (argc >= 4 && argc <= 7 && !strcmp(argv[1], "node"))
        return node(argv[2], argv[3], ca, argc > 5 ? argv[5] : NULL, argc > 6 ? argv[6] : NULL);
    if (argc >= 4 && !strcmp(argv[1], "inside")) return inside(argv[2], argv[3], ca);
    if (argc == 4 && !strcmp(argv[1], "clients")) return many(argv[2], atoi(argv[3]));
    if (argc >= 4 && !strcmp(argv[1], "ask")) return once(argv[2], argv[3], argc > 4 ? atoi(argv[4]) : 0);
    return 2;
}
