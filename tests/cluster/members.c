/*
 * A node for the tests of members, addresses and presence: members URL NAME [JOIN_MS [META]]. It prints a line for whatever it
 * is told by the library, and answers the lines of its standard input:
 *
 *     members              "listed NAME STATE SELF CONNECTIONS ADDRESSES META" for each, then "members COUNT"
 *     count TOPIC          "counted STATUS CONNECTIONS SILENT"; wait TOPIC: "waited STATUS CONNECTIONS"
 *     send ADDRESS TEXT    "sent STATUS"
 *     confirm ADDRESS TEXT "confirmed STATUS"; confirm_wait: the same, waiting
 *     stop                 stops the server; the end of the input does so, too
 *
 * A client that sends "address" gets the address of its connection, one that sends "join TOPIC" gets "joined".
 */
#include <ahoy.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const states[] = { "local", "joining", "joined", "disconnected", "rejoined", "left" };
static const char *const presences[] = { "joined", "suspect", "left", "unknown" };

static void on_state(ahoy_server server, int32_t state, ahoy_status reason, void *user) {
    (void)server, (void)user;
    printf("state %s %s\n", states[state], ahoy_status_name(reason));
}

static void on_member(ahoy_server server, const ahoy_member *member, void *user) {
    (void)server, (void)user;
    printf("member %s %s\n", member->node, presences[member->state]);
}

static void list(ahoy_server server, const ahoy_member *member, void *user) {
    (void)server, (void)user;
    printf("listed %s %s %d %" PRIu64 " %s %s\n", member->node, presences[member->state], (int)member->is_self,
           member->connections, member->addresses, member->meta);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    char text[256], answer[AHOY_ADDRESS_TEXT_BYTES];
    (void)user;
    snprintf(text, sizeof text, "%.*s", (int)len, (const char *)data);
    if (!strncmp(text, "join ", 5)) {
        ahoy_status status = ahoy_conn_join(conn, text + 5);
        ahoy_send(conn, status ? "refused" : "joined", status ? 7 : 6);
    } else if (!strcmp(text, "address")) {
        ahoy_address address;
        if (!ahoy_conn_address(conn, &address) && !ahoy_address_text(address, answer, sizeof answer))
            ahoy_send(conn, answer, strlen(answer));
    }
}

static void on_count(ahoy_server server, ahoy_status status, uint64_t connections, size_t silent, void *user) {
    (void)server, (void)user;
    printf("counted %s %" PRIu64 " %zu\n", ahoy_status_name(status), connections, silent);
}

static void on_sent(ahoy_server server, ahoy_status status, void *user) {
    (void)server, (void)user;
    printf("confirmed %s\n", ahoy_status_name(status));
}

static void obey(ahoy_server server, const char *word, const char *name, const char *text) {
    ahoy_address address = { 0, 0 };
    ahoy_status status = AHOY_OK;
    if (!strcmp(word, "members")) {
        size_t count = 0;
        status = ahoy_members(server, list, NULL, &count);
        printf("members %zu\n", count);
    } else if (!strcmp(word, "count")) {
        if ((status = ahoy_topic_count(server, name, on_count, NULL))) on_count(server, status, 0, 0, NULL);
    } else if (!strcmp(word, "wait")) {
        uint64_t count = 0;
        status = ahoy_topic_count_wait(server, name, &count);
        printf("waited %s %" PRIu64 "\n", ahoy_status_name(status), count);
    } else if ((status = ahoy_address_parse(name, &address))) {
        printf("no address %s\n", ahoy_status_name(status));
    } else if (!strcmp(word, "send")) {
        printf("sent %s\n", ahoy_status_name(ahoy_send_to(server, address, text, strlen(text))));
    } else if (!strcmp(word, "confirm")) {
        status = ahoy_send_to_confirmed(server, address, text, strlen(text), on_sent, NULL);
        if (status) on_sent(server, status, NULL);
    } else if (!strcmp(word, "confirm_wait")) {
        on_sent(server, ahoy_send_to_confirmed_wait(server, address, text, strlen(text)), NULL);
    }
}

int main(int count, char **words) {
    char line[18 * 1024], word[32], name[256], text[16 * 1024 + 1], address[128];
    ahoy_server server;
    ahoy_cluster_options cluster = {
        .size = sizeof cluster,
        .node = words[2],
        .join_ms = count > 3 ? (uint32_t)atoi(words[3]) : 0,
        .meta = count > 4 ? words[4] : NULL,
    };
    ahoy_server_options options = {
        .size = sizeof options,
        .listen = "tcp://127.0.0.1:0",
        .workers = 2,
        .framing = AHOY_FRAMING_LINES,
        .queue_bytes_max = 64 * 1024,
        .message_bytes_max = 32 * 1024,
        .on_message = on_message,
        .cluster = words[1],
        .cluster_options = &cluster,
        .on_cluster_state = on_state,
        .on_member = on_member,
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status) return printf("failed %s\n", ahoy_status_name(status)), 1;
    if ((status = ahoy_server_address(server, 0, address, sizeof address))) return 2;
    printf("started %s\n", address);
    while (fgets(line, sizeof line, stdin)) {
        word[0] = name[0] = text[0] = 0;
        sscanf(line, "%31s %255s %16384[^\n]", word, name, text);
        if (!strcmp(word, "stop")) break;
        obey(server, word, name, text);
    }
    ahoy_server_stop(server, 1000);
    ahoy_server_wait(server);
    printf("stopped\n");
    ahoy_server_free(server);
    return 0;
}
