/*
 * A node that talks: joins a cluster, publishes and subscribes as it is told, and tells what it hears. Clients may
 * connect to it; each is in the topic "lobby", and what it says goes there.
 *
 *     talker CLUSTER-URL [OPTION=VALUE…]     node, meta, user, password, token, credentials, ca, cert, key, join_ms
 *
 * URL "": the process alone is the cluster.
 *
 * In: "subscribe TOPIC", "publish TOPIC TEXT", "flood TOPIC COUNT BYTES" (up to the first that fails), "fill TOPIC BYTES"
 * (messages of that length, up to the first that is refused), "state", "metric NAME", "stop". Out: "ready ADDRESS",
 * "state NUMBER REASON" and "why DETAIL", "heard TOPIC TEXT", "published STATUS", "flooded COUNT", "filled COUNT STATUS",
 * "metric VALUE", "failed STATUS: DETAIL", "stopped".
 */
#include <ahoy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(const char *text) { puts(text), fflush(stdout); }

static void on_state(ahoy_server server, int32_t state, ahoy_status reason, void *user)
{
    (void)server, (void)user;
    printf("state %d %s\n", state, ahoy_status_name(reason));
    if (reason) printf("why %s\n", ahoy_last_error());
    fflush(stdout);
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user)
{
    (void)server, (void)user;
    printf("heard %s %.*s\n", topic, (int)len, (const char *)data), fflush(stdout);
}

static void enter(ahoy_conn conn, void *user) { (void)user, ahoy_conn_join(conn, "lobby"); }

static void talk(ahoy_conn conn, const void *data, size_t len, void *user)
{
    (void)user, ahoy_publish(ahoy_conn_server(conn), "lobby", data, len);
}

static const char *option(int argc, char **argv, const char *name)
{
    size_t len = strlen(name);
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], name, len) && argv[i][len] == '=') return argv[i] + len + 1;
    return NULL;
}

/* The numbers from 0 on, with spaces behind them up to so many bytes. */
static void flood(ahoy_server server, const char *topic, long count, int bytes)
{
    static char text[1 << 16];
    long i = 0;
    for (; i < count; i++) {
        int len = snprintf(text, sizeof text, "%-*ld", bytes, i);
        ahoy_status status;
        while ((status = ahoy_publish(server, topic, text, (size_t)len)) == AHOY_ERR_AGAIN) {}
        if (status) {
            printf("failed %s: %s\n", ahoy_status_name(status), ahoy_last_error());
            break;
        }
    }
    printf("flooded %ld\n", i), fflush(stdout);
}

static void fill(ahoy_server server, const char *topic, long bytes)
{
    char *data = calloc(1, (size_t)bytes);
    long count = 0;
    ahoy_status status;
    while (!(status = ahoy_publish(server, topic, data, (size_t)bytes))) count++;
    free(data);
    printf("filled %ld %s\n", count, ahoy_status_name(status)), fflush(stdout);
}

static void metric(ahoy_server server, const char *wanted)
{
    static char text[1 << 16];
    char line[160];
    ahoy_metrics_text(server, text, sizeof text, NULL);
    snprintf(line, sizeof line, "\n%.127s ", wanted);
    const char *found = strstr(text, line);
    if (found) found += strlen(line);
    printf("metric %.*s\n", found ? (int)strcspn(found, "\n") : 4, found ? found : "none"), fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *join_ms = option(argc, argv, "join_ms");
    ahoy_cluster_options particulars = {
        .size = sizeof particulars, .node = option(argc, argv, "node"), .meta = option(argc, argv, "meta"),
        .user = option(argc, argv, "user"), .password = option(argc, argv, "password"),
        .token = option(argc, argv, "token"), .credentials = option(argc, argv, "credentials"),
        .ca_file = option(argc, argv, "ca"), .cert_file = option(argc, argv, "cert"),
        .key_file = option(argc, argv, "key"), .join_ms = join_ms ? (uint32_t)atoi(join_ms) : 0,
    };
    ahoy_server_options options = {
        .size = sizeof options, .listen = "tcp://127.0.0.1:0", .workers = 2, .framing = AHOY_FRAMING_LINES,
        .on_open = enter, .on_message = talk, .cluster = *argv[1] ? argv[1] : NULL, .cluster_options = &particulars,
        .on_cluster_state = on_state,
    };
    ahoy_server server;
    char address[128], line[4096], topic[512], text[4096];
    long count;
    int bytes;
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status) return printf("failed %s: %s\n", ahoy_status_name(status), ahoy_last_error()), 1;
    ahoy_server_address(server, 0, address, sizeof address);
    printf("ready %s\n", address), fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int32_t state;
        if (sscanf(line, "subscribe %511s", topic) == 1) {
            status = ahoy_subscribe(server, topic, on_topic, NULL, NULL, NULL);
            printf("subscribed %s\n", ahoy_status_name(status)), fflush(stdout);
        } else if (sscanf(line, "publish %511s %4095[^\n]", topic, text) == 2) {
            printf("published %s\n", ahoy_status_name(ahoy_publish(server, topic, text, strlen(text)))), fflush(stdout);
        } else if (sscanf(line, "flood %255s %ld %d", topic, &count, &bytes) == 3) {
            flood(server, topic, count, bytes);
        } else if (sscanf(line, "fill %255s %ld", topic, &count) == 2) {
            fill(server, topic, count);
        } else if (sscanf(line, "metric %255s", topic) == 1) {
            metric(server, topic);
        } else if (!strcmp(line, "state") && !ahoy_cluster_state(server, &state)) {
            printf("state is %d\n", state), fflush(stdout);
        } else if (!strcmp(line, "stop")) {
            break;
        }
    }
    ahoy_server_stop(server, 2000);
    ahoy_server_wait(server);
    ahoy_server_free(server);
    say("stopped");
    return 0;
}
