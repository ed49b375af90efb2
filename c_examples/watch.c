/*
 * watch: a cluster at a glance: its nodes, and how much is said about some topics; anew each second. It is a node itself, on
 * which nobody calls.
 *
 *     cc -o watch watch.c $(pkg-config --cflags --libs ahoy)
 *     ./watch nats://127.0.0.1/chat lobby            several topics may follow; Ctrl-C ends it
 */
#include <ahoy.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TOPICS_MAX = 16 };

static struct topic {
    const char *name;
    uint64_t connections, heard, heard_before;
} topics[TOPICS_MAX];
static int topic_count;
static char standing[256] = "joining";

static const char *state_name(int32_t state)
{
    switch (state) {
    case AHOY_MEMBER_JOINED: return "up";
    case AHOY_MEMBER_SUSPECT: return "silent";
    case AHOY_MEMBER_LEFT: return "gone";
    default: return "unknown";
    }
}

static void stand(ahoy_server server, int32_t state, ahoy_status reason, void *user)
{
    const char *how = state == AHOY_CLUSTER_JOINING ? "joining" : state == AHOY_CLUSTER_DISCONNECTED ? "cut off" : "joined";
    (void)server, (void)user;
    snprintf(standing, sizeof standing, "%s%s%s", how, reason ? ": " : "", reason ? ahoy_last_error() : "");
}

static void heard(ahoy_server server, const char *name, const void *data, size_t len, void *user)
{
    (void)server, (void)name, (void)data, (void)len;
    ((struct topic *)user)->heard++;
}

static void counted(ahoy_server server, ahoy_status status, uint64_t connections, size_t silent, void *user)
{
    (void)server, (void)silent;
    if (status == AHOY_OK) ((struct topic *)user)->connections = connections;
}

static void show_node(ahoy_server server, const ahoy_member *node, void *user)
{
    unsigned long long age_s = (unsigned long long)time(NULL) - node->since_ms / 1000;
    (void)server, (void)user;
    printf("  %-28.28s %-8s %8llu %5.1f %% %6llu s  %s%s%s\n", node->node, state_name(node->state),
           (unsigned long long)node->connections, node->load / 10.0, age_s, node->addresses,
           *node->meta ? "  " : "", node->is_self ? "(this one)" : node->meta);
}

/* Everything here runs on the one worker: nothing needs a lock. */
static void show(ahoy_timer timer, ahoy_conn conn, void *user)
{
    ahoy_server server = *(ahoy_server *)user;
    (void)timer, (void)conn;
    printf("\033[H\033[J  %s\n\n  %-28s %-8s %8s %7s %8s  %s\n", standing, "node", "state", "clients", "busy", "since",
           "listens on");
    ahoy_members(server, show_node, NULL, NULL);
    printf("\n  %-28s %8s %12s\n", "topic", "clients", "messages/s");
    for (struct topic *topic = topics; topic < topics + topic_count; topic++) {
        printf("  %-28.28s %8llu %12llu\n", topic->name, (unsigned long long)topic->connections,
               (unsigned long long)(topic->heard - topic->heard_before));
        topic->heard_before = topic->heard;
        ahoy_topic_count(server, topic->name, counted, topic);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static ahoy_server server;
    if (argc < 2 || *argv[1] == '-') return fprintf(stderr, "usage: watch CLUSTER-URL [TOPIC...]\n"), 2;
    ahoy_server_options options = { .size = sizeof options, .workers = 1, .cluster = argv[1], .on_cluster_state = stand };
    if (ahoy_server_start(&options, &server)) return ahoy_perror("watch"), 1;
    for (topic_count = 0; topic_count < argc - 2 && topic_count < TOPICS_MAX; topic_count++) {
        struct topic *topic = &topics[topic_count];
        topic->name = argv[topic_count + 2];
        if (ahoy_subscribe(server, topic->name, heard, topic, NULL, NULL)) return ahoy_perror(topic->name), 1;
    }
    if (ahoy_timer_start(server, 0, 1000, show, &server, NULL, NULL)) return ahoy_perror("timer"), 1;
    return ahoy_server_wait(server);
}
