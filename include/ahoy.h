/*
 * ahoy.h: the socket server that C programs link.                       libahoy 0.4.0
 *
 *     #include <ahoy.h>
 *     int main(void) { return ahoy_serve("tcp://0.0.0.0:8888", "Hello from server"); }
 *
 * is a whole server: on every core, bounded, with a graceful stop. Build it with
 *
 *     cc hello.c $(pkg-config --cflags --libs ahoy)        or        cc hello.c -lahoy
 *
 * Rules that hold for everything below:
 *
 *  - Threads. Every function may be called from any thread unless its comment says otherwise.
 *    The callbacks of one connection never run at the same time and keep their order.
 *  - Handles are small values. Zero is "none". A stale, forged or zero handle gives
 *    AHOY_ERR_STALE; freeing one does nothing. Nothing is ever undefined.
 *  - Lifetimes. Memory passed in is copied before the call returns, unless the comment says that it
 *    is taken over. Memory passed to a callback lives until the callback returns.
 *  - Callbacks may send, close, stop and free whatever they like, their own connection and server
 *    included. A call that would have to wait answers AHOY_ERR_DEADLOCK there instead of hanging.
 *  - Structs start with `size`: set it to sizeof the struct, and leave the rest zero for the defaults.
 *  - Your process is yours: no signal handlers, no SIGPIPE, no printing, no environment. Worker threads
 *    block every signal (but those of a fault, such as SIGSEGV), all descriptors are close-on-exec, and
 *    a child after fork() is told AHOY_ERR_FORKED. (`ahoy_serve` and `ahoy_perror` are the two that say
 *    otherwise.) A child that was forked in a callback must not return from it on a worker thread: it
 *    is ended by _exit(0) if it does.
 *
 * Addresses are URLs: tcp://0.0.0.0:8888, tcp://[::]:0 (port 0: any free one), tcp://localhost:80,
 * unix:/run/a.sock, unix:@name (Linux's abstract names), udp://0.0.0.0:5353, unixgram:/run/b.sock, fd:3,
 * systemd:, systemd:name. IPv6 listeners take IPv6 only, so that a server can listen on tcp://0.0.0.0:80 and
 * tcp://[::]:80 at once. On a datagram socket each peer address is a connection, with an idle time.
 *
 * This file is generated from the library's source: do not edit it.
 */
#ifndef AHOY_H
#define AHOY_H

#include <stddef.h>
#include <stdint.h>

/** Version of this header; `ahoy_version` tells the library's. */
#define AHOY_VERSION "0.4.0"
#define AHOY_VERSION_MAJOR 0
#define AHOY_VERSION_MINOR 4
#define AHOY_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* ==============================================================================================
 * Status and errors
 *
 * Every function that can fail returns an ahoy_status. The code is authoritative; `ahoy_last_error`
 * says more, for people.
 * ============================================================================================== */

/**
 * What a call came to: 0 is success, every error is negative. The numbers never change.
 * `ahoy_last_error` adds the detail.
 */
typedef enum ahoy_status {
    /* Success; as the reason of a close: this program closed the connection. */
    AHOY_OK = 0,
    /* The handle is stale: what it named is gone, or never was. */
    AHOY_ERR_STALE = -1,
    /* A limit is reached for now: try again later; for a send, on_writable tells when. */
    AHOY_ERR_AGAIN = -2,
    /* A pointer is NULL that must not be. */
    AHOY_ERR_NULL = -3,
    /* A value is outside its range. */
    AHOY_ERR_INVALID = -4,
    /* The size field of a struct is not one that this library knows. */
    AHOY_ERR_SIZE = -5,
    /* A number is none of the enumeration's. */
    AHOY_ERR_ENUM = -6,
    /* The data is longer than the limit or the buffer allows. */
    AHOY_ERR_TOO_LONG = -7,
    /* The address is not a URL of a form that this library knows. */
    AHOY_ERR_URL = -8,
    /* The port is not a number from 0 to 65535. */
    AHOY_ERR_PORT = -9,
    /* The path is too long for a Unix socket. */
    AHOY_ERR_PATH_TOO_LONG = -10,
    /* The address is in use. */
    AHOY_ERR_ADDRESS_IN_USE = -11,
    /* The address or the name is not one that this machine has. */
    AHOY_ERR_ADDRESS_UNAVAILABLE = -12,
    /* The system does not permit it. */
    AHOY_ERR_PERMISSION = -13,
    /* The file or folder does not exist. */
    AHOY_ERR_NOT_FOUND = -14,
    /* Out of memory. */
    AHOY_ERR_MEMORY = -15,
    /* Out of file descriptors. */
    AHOY_ERR_DESCRIPTORS = -16,
    /* The descriptor is not an open socket of the kind that is needed. */
    AHOY_ERR_BAD_DESCRIPTOR = -17,
    /* The system gave no thread. */
    AHOY_ERR_THREAD = -18,
    /* This call would wait for itself: it was made inside a callback. */
    AHOY_ERR_DEADLOCK = -19,
    /* This process is a child after fork: the object belongs to the parent. */
    AHOY_ERR_FORKED = -20,
    /* A bug inside the library was caught; it cost at most one connection. */
    AHOY_ERR_PANIC = -21,
    /* The server stops or has stopped. */
    AHOY_ERR_STOPPED = -22,
    /* The connection is closing: nothing more can be sent. */
    AHOY_ERR_CLOSED = -23,
    /* The peer ended the conversation. */
    AHOY_ERR_EOF = -24,
    /* The peer reset the connection. */
    AHOY_ERR_RESET = -25,
    /* The time allowed has passed. */
    AHOY_ERR_TIMEOUT = -26,
    /* Another thread is in this call. */
    AHOY_ERR_BUSY = -27,
    /* This build or this system does not support it. */
    AHOY_ERR_UNSUPPORTED = -28,
    /* The system call failed for another reason: see ahoy_last_error. */
    AHOY_ERR_SYSTEM = -29,
    /* A queue is full, and the server closes such connections. */
    AHOY_ERR_OVERFLOW = -30,
    /* The name does not resolve to an address. */
    AHOY_ERR_NAME = -31,
    /* The peer refused the connection: nobody listens there. */
    AHOY_ERR_REFUSED = -32,
    /* The network or the host cannot be reached. */
    AHOY_ERR_UNREACHABLE = -33,
    /* The cluster cannot be reached at present. */
    AHOY_ERR_DISCONNECTED = -34,
    /* The cluster's server refuses the user, the password, the token or the credentials. */
    AHOY_ERR_CREDENTIALS = -35,
    /* The certificate of the cluster's server is not one to trust, or ours cannot be used. */
    AHOY_ERR_CERTIFICATE = -36,
    /* Another node of the cluster has this name. */
    AHOY_ERR_NODE_TAKEN = -37,
    /* Nobody offers the service. */
    AHOY_ERR_NO_SERVICE = -38,
    /* It may have been done or not: the answer is lost. */
    AHOY_ERR_UNKNOWN_OUTCOME = -39,
    /* The service has answered that it failed. */
    AHOY_ERR_FAILED = -40,
    /* There is no such key. */
    AHOY_ERR_NO_KEY = -41,
    /* The key is there already. */
    AHOY_ERR_KEY_EXISTS = -42,
    /* The key has another revision than the one named. */
    AHOY_ERR_REVISION = -43,
    /* The cluster's server keeps nothing: it runs without JetStream. */
    AHOY_ERR_NO_STORE = -44,
    /* The cluster has too few servers for so many replicas. */
    AHOY_ERR_REPLICAS = -45
} ahoy_status;

/**
 * The name of a status, such as "AHOY_ERR_STALE"; "AHOY_ERR_?" for a number that is none.
 * The string lives forever. Since 0.1.
 */
const char *ahoy_status_name(int32_t status);

/**
 * One sentence about a status; "Unknown status." for a number that is none.
 * The string lives forever. Since 0.1.
 */
const char *ahoy_status_text(int32_t status);

/**
 * The detail of the last error on this thread, such as "bind tcp://0.0.0.0:80: Permission denied"; ""
 * if there was none. Success leaves it as it is. The string lives until the next ahoy call that
 * fails on this thread, or until the thread ends. Since 0.1.
 */
const char *ahoy_last_error(void);

/**
 * Prints "prefix: detail of the last error on this thread" and a newline to the standard error, as
 * perror(3) does. A NULL or empty prefix is left out. One of the two functions that print. Since 0.1.
 */
void ahoy_perror(const char *prefix);

/**
 * The library's version, such as "0.2.0"; AHOY_VERSION is the header's. The string lives forever.
 * Since 0.1.
 */
const char *ahoy_version(void);

/* ==============================================================================================
 * Handles
 *
 * Objects are small values that may be copied, compared (by `id`), kept and passed to other threads
 * freely. They never dangle: the library knows a stale one.
 * ============================================================================================== */

/** A server. `id` 0: none. */
typedef struct ahoy_server {
    /** Opaque. */
    uint64_t id;
} ahoy_server;

/** One connection of a server. `id` 0: none. Valid from before on_open until on_close has returned. */
typedef struct ahoy_conn {
    /** Opaque. */
    uint64_t id;
} ahoy_conn;

/** A timer. `id` 0: none. Valid until its `on_free` is called. */
typedef struct ahoy_timer {
    /** Opaque. */
    uint64_t id;
} ahoy_timer;

/** A function's subscription to a topic. `id` 0: none. Valid until its `on_free` is called. */
typedef struct ahoy_subscription {
    /** Opaque. */
    uint64_t id;
} ahoy_subscription;

/** Working on a queue. `id` 0: none. Valid until `ahoy_work_stop`, or until the server stops. */
typedef struct ahoy_work {
    /** Opaque. */
    uint64_t id;
} ahoy_work;

/** A job in hand. `id` 0: none. Valid until it ends, or until the server has stopped. */
typedef struct ahoy_job {
    /** Opaque. */
    uint64_t id;
} ahoy_job;

/** An open bucket. `id` 0: none. Valid until `ahoy_kv_close`, or until the server has stopped. */
typedef struct ahoy_kv {
    /** Opaque. */
    uint64_t id;
} ahoy_kv;

/** A watch of a bucket. `id` 0: none. Valid until it is ended. */
typedef struct ahoy_watch {
    /** Opaque. */
    uint64_t id;
} ahoy_watch;

/* ==============================================================================================
 * Greeting
 *
 * The least that a program needs: a whole server in one call, one greeting in one call, or one
 * call for the accept loop that the program already has.
 * ============================================================================================== */

/**
 * Runs a whole greeting server: listens on `url`, answers each client's first bytes with `greeting`,
 * closes, and returns after SIGINT or SIGTERM, when what was queued is out (a second signal does not
 * wait for that).
 *
 * @param url       where to listen; NULL: "tcp://0.0.0.0:8888".
 * @param greeting  a string; NULL: "Hello from server".
 * @return AHOY_OK after a signal; otherwise what `ahoy_server_start` answers. AHOY_ERR_DEADLOCK in a
 *         callback.
 *
 * For programs that do nothing else: the calling thread waits, and SIGINT and SIGTERM are blocked in it
 * meanwhile, so that they end this call and not the process. Call it before other threads are started
 * (they inherit the mask). The mask is restored before it returns. Since 0.1.
 */
ahoy_status ahoy_serve(const char *url, const char *greeting);

/**
 * Greets one client, once, as the well-known tutorial server does: listens on `url` (with SO_REUSEADDR
 * and SO_REUSEPORT, backlog 3), accepts one client, reads its first bytes, sends `greeting`, and closes
 * both sockets.
 *
 * @param url       where to listen; NULL: "tcp://0.0.0.0:8888".
 * @param greeting  a string; NULL: "Hello from server".
 * @param buffer    receives what the client sent, at most `capacity` - 1 bytes of it, and a zero byte
 *                  after them; NULL if you do not care.
 * @param capacity  size of `buffer` in bytes; 0 if it is NULL.
 * @param received  receives the number of bytes read, without the zero byte; NULL if you do not care.
 *                  0: the client ended without sending (it is greeted all the same).
 * @return AHOY_OK when the greeting is handed to the system. AHOY_ERR_URL, _PORT, _ADDRESS_IN_USE,
 *         _PERMISSION and so on when listening fails; AHOY_ERR_RESET when the client is gone;
 *         AHOY_ERR_DEADLOCK in a callback.
 *
 * Waits as long as it takes, on the calling thread; a signal handler that runs meanwhile does not end
 * it. No server, no thread and no descriptor is left. Since 0.1.
 */
ahoy_status ahoy_greet_once(const char *url, const char *greeting, void *buffer, size_t capacity,
                            size_t *received);

/**
 * Greets the client behind a connected stream socket that the program accepted itself: reads its first
 * bytes, sends `greeting`. The socket stays open and the program's own. Blocking and non-blocking
 * sockets will do.
 *
 * @param fd        the connected socket.
 * @param greeting  a string; NULL: "Hello from server".
 * @param buffer    as in `ahoy_greet_once`.
 * @param capacity  as in `ahoy_greet_once`.
 * @param received  as in `ahoy_greet_once`.
 * @return AHOY_OK when the greeting is handed to the system; AHOY_ERR_BAD_DESCRIPTOR when `fd` is not a
 *         connected socket; AHOY_ERR_RESET when the client is gone; AHOY_ERR_TIMEOUT when the
 *         socket's own SO_RCVTIMEO or SO_SNDTIMEO has passed; AHOY_ERR_DEADLOCK in a callback.
 *
 * Waits as long as the socket's own timeouts allow, on the calling thread. Since 0.1.
 */
ahoy_status ahoy_greet_fd(int fd, const char *greeting, void *buffer, size_t capacity,
                          size_t *received);

/* ==============================================================================================
 * Framing
 *
 * How the messages of a conversation lie in a stream of bytes. A server has one framing, a listener may
 * have its own, in the query of its URL: "tcp://0.0.0.0:7000?framing=lines". What a peer sends becomes whole
 * messages, one on_message for each; what the program sends gets its frame from `ahoy_send`. A message that
 * lies whole in what one read gave is handed on in place, without a copy; only a partial one is kept.
 *
 * In a URL:
 *
 *     ?framing=raw
 *     ?framing=lines
 *     ?framing=length&length_bytes=2&length_order=little      (default: 4 bytes, big-endian)
 *     ?framing=delimiter&delimiter=%0D%0A%0D%0A               (percent-encoded)
 * ============================================================================================== */

/**
 * As `framing`: what goes without saying. For `ahoy_connect` that is the server's framing, otherwise
 * none.
 */
#define AHOY_FRAMING_DEFAULT 0

/**
 * As `framing`: none. A message is what one read gave: TCP may split and join what the peer sent. Sends go
 * out as they are.
 */
#define AHOY_FRAMING_RAW 1

/**
 * As `framing`: lines. Each ends with LF or CRLF, which is not part of the message; sends get an LF. A
 * message may be empty. What a peer leaves without an end is no message.
 */
#define AHOY_FRAMING_LINES 2

/**
 * As `framing`: in front of each message its length in bytes, which may be 0; by default in four bytes,
 * big-endian.
 */
#define AHOY_FRAMING_LENGTH 3

/**
 * As `framing`: behind each message a delimiter of your choice. The delimiter must not occur in what is
 * sent, or the other side takes it for several messages (this holds for LF and lines, too).
 */
#define AHOY_FRAMING_DELIMITER 4

/** As `length_order`: the most significant byte comes first (network order). */
#define AHOY_ORDER_BIG 0

/** As `length_order`: the least significant byte comes first. */
#define AHOY_ORDER_LITTLE 1

/** The particulars of AHOY_FRAMING_LENGTH and AHOY_FRAMING_DELIMITER. */
typedef struct ahoy_framing_options {
    /** sizeof(ahoy_framing_options). */
    size_t size;
    /** With AHOY_FRAMING_DELIMITER: the delimiter, 1 to 64 bytes. */
    const void *delimiter;
    /** Length of the delimiter in bytes. 0: `delimiter` is a string that ends with a zero byte. */
    size_t delimiter_bytes;
    /** With AHOY_FRAMING_LENGTH: bytes of the length: 1, 2 or 4. 0: 4. */
    uint32_t length_bytes;
    /** With AHOY_FRAMING_LENGTH: AHOY_ORDER_BIG or AHOY_ORDER_LITTLE. */
    int32_t length_order;
} ahoy_framing_options;

/* ==============================================================================================
 * Cluster
 *
 * Several servers, on one machine or many, that act as one. `.cluster` in a server's options is all that it takes:
 *
 *     .cluster = "nats://10.0.0.1,10.0.0.2:4222/chat"
 *
 * names the NATS servers that carry it, and the cluster itself (letters, digits and -). Topics then reach every
 * node; members, addresses, services, buckets and queues are shared. Without `.cluster` all the same calls
 * work, inside the process. Servers may be nats:// or tls://, and only one of them has to be reached; later ones
 * take the place of one that is lost. docs/CLUSTER.md says what is promised, and what is not.
 * ============================================================================================== */

/** The server has no cluster: what it shares stays in the process. */
#define AHOY_CLUSTER_LOCAL 0

/** The cluster was not joined yet since the start. */
#define AHOY_CLUSTER_JOINING 1

/** The cluster is joined. */
#define AHOY_CLUSTER_JOINED 2

/** The cluster is lost, and will be joined again: what needs it answers AHOY_ERR_DISCONNECTED. */
#define AHOY_CLUSTER_DISCONNECTED 3

/** The cluster is joined again after a loss. */
#define AHOY_CLUSTER_REJOINED 4

/** The server stops, and has left the cluster: what `ahoy_cluster_state` tells then. */
#define AHOY_CLUSTER_LEFT 5

/** The member is there: it is new, or was heard again. */
#define AHOY_MEMBER_JOINED 0

/** The member was silent for 0.9 seconds, and is asked whether it is there. */
#define AHOY_MEMBER_SUSPECT 1

/** The member has said goodbye, or is dead. It is not listed any more. One that only stood still joins again. */
#define AHOY_MEMBER_LEFT 2

/** This node is cut off itself: it cannot know. Of itself: it waits for its name (AHOY_ERR_NODE_TAKEN). */
#define AHOY_MEMBER_UNKNOWN 3

/** A member of the cluster, as this node knows it. Strings live until the function that was given it returns. */
typedef struct ahoy_member {
    /** sizeof(ahoy_member), as the library knows it. */
    size_t size;
    /** Its name. */
    const char *node;
    /**
     * Where it listens: URLs with commas between, as it names them itself; "" for nowhere. A listener on every address
     * is at the node's `advertise`.
     */
    const char *addresses;
    /** What its options call `meta`; "" for nothing. */
    const char *meta;
    /** When it joined: milliseconds since 1970, by its own clock. */
    uint64_t since_ms;
    /** Connections that it had when it was last heard. */
    uint64_t connections;
    /** Which part of their time its workers were busy then, in thousandths. */
    uint32_t load;
    /** AHOY_MEMBER_JOINED, _SUSPECT, _LEFT or _UNKNOWN. */
    int32_t state;
    /** Not 0: it is this very node. */
    int32_t is_self;
    /** Which life of the node this is: the `node` in the addresses of its connections. Never 0. */
    uint64_t incarnation;
} ahoy_member;

/**
 * As on_member: another member has come, gone, or changed its state; in the order in which this node has learnt of
 * it, one call after the other, on a worker. As an argument of `ahoy_members`: one of all. Any call is legal.
 */
typedef void (*ahoy_member_fn)(ahoy_server server, const ahoy_member *member, void *user);

/** The particulars of `.cluster`. Leave zero what you do not need. */
typedef struct ahoy_cluster_options {
    /** sizeof(ahoy_cluster_options). */
    size_t size;
    /**
     * Name of this node: 1 to 64 letters, digits, - and _; no two nodes of a cluster have the same. NULL: made of
     * the host's name, the process and a random number.
     */
    const char *node;
    /** What the other nodes are told about this one: any text, up to 1,024 bytes. NULL: nothing. */
    const char *meta;
    /** User and password for the NATS servers. NULL: none. */
    const char *user;
    /** The password. */
    const char *password;
    /** A token for the NATS servers. NULL: none. */
    const char *token;
    /** A file with NATS credentials (JWT and nkey), or with the seed of an nkey alone. NULL: none. */
    const char *credentials;
    /** A file with the certificates that may vouch for the servers. NULL: those of the system. */
    const char *ca_file;
    /** A file with the certificate of this client. NULL: none. */
    const char *cert_file;
    /** A file with the key of that certificate. */
    const char *key_file;
    /**
     * Milliseconds that `ahoy_server_start` waits for the cluster, and fails without it (AHOY_ERR_NODE_TAKEN: another
     * live node has had this one's name all the time). A login or a certificate that is refused fails it at once. 0: it
     * does not wait, and the cluster is joined as soon as it can be reached.
     */
    uint32_t join_ms;
    /** Milliseconds that calls wait for the cluster's answer. 0: 5,000. */
    uint32_t timeout_ms;
    /**
     * Name or address at which other machines reach this one: told in place of 0.0.0.0 (not if it is an IPv6 address)
     * and of [::] (not if it is an IPv4 address), so that clients that move find it there. NULL: the address that
     * this node's NATS server sees it at, which is 127.0.0.1 if that server is on this machine.
     */
    const char *advertise;
} ahoy_cluster_options;

/**
 * How a server stands to its cluster has changed: `state` is one of AHOY_CLUSTER_.... `reason` says why, where
 * it is not joined: AHOY_ERR_DISCONNECTED, AHOY_ERR_CREDENTIALS, AHOY_ERR_CERTIFICATE, AHOY_ERR_NAME ...;
 * AHOY_ERR_NODE_TAKEN: another live node has this one's name; it joins when that one has gone. Where it is not
 * AHOY_OK `ahoy_last_error` says more: "nats://10.0.0.1/chat: Connection refused". Never told of AHOY_CLUSTER_LEFT:
 * the program has stopped the server itself. Runs on a worker, one call after the other. Any call is legal.
 */
typedef void (*ahoy_cluster_state_fn)(ahoy_server server, int32_t state, ahoy_status reason,
                                      void *user);

/**
 * Tells how a server stands to its cluster.
 *
 * @param state  receives one of AHOY_CLUSTER_....
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. Since 0.3.
 */
ahoy_status ahoy_cluster_state(ahoy_server server, int32_t *state);

/**
 * Tells who is in the cluster, as far as this node knows: itself first. Others are known a moment after it has
 * joined. Without a cluster there is one member, "local".
 *
 * @param each   called for each member, in this thread, before this returns. NULL: only the count is wanted.
 * @param user   passed to `each`.
 * @param count  receives how many there are; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_STOPPED.
 *
 * Nothing is locked while `each` runs. Since 0.3.
 */
ahoy_status ahoy_members(ahoy_server server, ahoy_member_fn each, void *user, size_t *count);

/* ==============================================================================================
 * Drivers
 *
 * What the workers of a server ask the system with. The same program runs on each; `driver` in the server's options
 * says which one it is to be.
 * ============================================================================================== */

/**
 * As `driver`: what was never found worse than epoll. Today that is io_uring for one worker that greets and closes, where it may
 * be used (a log line says if not), and epoll otherwise.
 */
#define AHOY_DRIVER_AUTO 0

/** As `driver`: epoll, which every Linux has. */
#define AHOY_DRIVER_EPOLL 1

/**
 * As `driver`: io_uring. It takes Linux 6.13, a process that may use it, and worker threads; otherwise
 * `ahoy_server_start` answers AHOY_ERR_UNSUPPORTED.
 */
#define AHOY_DRIVER_URING 2

/** What a server's workers run on: "epoll" or "io_uring". NULL: the handle is stale. The string lives forever. Since 0.4. */
const char *ahoy_server_driver(ahoy_server server);

/* ==============================================================================================
 * Server
 *
 * Listeners, workers and connections, from start to free. A worker is one thread with its share of
 * the connections; or, with AHOY_WORKERS_NONE, the program's own loop is the worker.
 * ============================================================================================== */

/**
 * As `workers`: no thread at all. The program's loop waits on `ahoy_server_fd` and calls
 * `ahoy_server_turn`; the callbacks run inside that call.
 */
#define AHOY_WORKERS_NONE -1

/** As `greet`: greet on the first message if there is no on_message, otherwise not at all. */
#define AHOY_GREET_AUTO 0

/** As `greet`: greet as soon as someone connects. Without an on_message the connection is then closed. */
#define AHOY_GREET_ON_OPEN 1

/** As `drain_ms` of `ahoy_server_stop`: as long as the server's options say. */
#define AHOY_DRAIN_DEFAULT -1

/**
 * As `overflow`: a message that finds a queue full is refused: sends answer AHOY_ERR_AGAIN, a publish
 * passes the connection by (and is counted).
 */
#define AHOY_OVERFLOW_REFUSE 0

/**
 * As `overflow`: the connection whose queue is full is closed (AHOY_ERR_OVERFLOW), as by
 * `ahoy_conn_abort`.
 */
#define AHOY_OVERFLOW_CLOSE 1

/** As a deadline in milliseconds: none. */
#define AHOY_MS_NEVER UINT32_MAX

/**
 * A connection is open: somebody connected, a connection was adopted, or `ahoy_connect` has connected.
 * Runs on the connection's worker, before every other callback of `conn`. Any call is legal, also
 * closing `conn`.
 */
typedef void (*ahoy_open_fn)(ahoy_conn conn, void *user);

/**
 * A message arrived: `len` bytes at `data`, which live until this returns. Without framing a message
 * is what one read gave, and never 0 bytes (but for an empty datagram): TCP may split and join what
 * the peer sent. Runs on the connection's worker. Any call is legal; after `ahoy_conn_close(conn)` no
 * further message comes.
 */
typedef void (*ahoy_message_fn)(ahoy_conn conn, const void *data, size_t len, void *user);

/**
 * There is room again: a message for `conn` was refused, or `queue_high_bytes` was reached, and the bytes
 * queued for it have since fallen to `queue_low_bytes` or less. Once for each such time. Runs on the
 * connection's worker.
 */
typedef void (*ahoy_writable_fn)(ahoy_conn conn, void *user);

/**
 * The peer has ended its side (a half-close): no further message will come, but it may still read. With
 * this callback the connection stays open until the program closes it; without it, it is closed when
 * what was queued is out. Runs on the connection's worker.
 */
typedef void (*ahoy_end_fn)(ahoy_conn conn, void *user);

/**
 * The connection is over: its last callback, exactly once, on its worker. `reason` is
 *
 *  - AHOY_OK: this program closed it, and all that was queued was handed to the system;
 *  - AHOY_ERR_EOF: the peer ended it; AHOY_ERR_RESET: the peer, or the network, broke it;
 *  - AHOY_ERR_TIMEOUT: nothing was received or sent for `idle_ms`; a message that had begun was not complete
 *    in `message_ms`; the peer took nothing for `write_ms`; a close was not done in `drain_ms`; or
 *    `ahoy_connect` had no answer;
 *  - AHOY_ERR_TOO_LONG: the peer began a message longer than `message_bytes_max`;
 *  - AHOY_ERR_OVERFLOW: its queue was full, and `overflow` is AHOY_OVERFLOW_CLOSE;
 *  - AHOY_ERR_NAME, AHOY_ERR_REFUSED, AHOY_ERR_UNREACHABLE: `ahoy_connect` could not open it;
 *  - AHOY_ERR_STOPPED: the server stopped;
 *  - AHOY_ERR_MEMORY, AHOY_ERR_PANIC, AHOY_ERR_SYSTEM: what their sentences say.
 *
 * `conn` may still be asked for its peer, user and server; sends answer AHOY_ERR_CLOSED.
 */
typedef void (*ahoy_close_fn)(ahoy_conn conn, ahoy_status reason, void *user);

/**
 * Gives something back to the program: called exactly once, from any thread, after the last use. free(3)
 * will do.
 */
typedef void (*ahoy_free_fn)(void *user);

/**
 * The server stops: finish the conversation. With this callback a connection stays open, messages still come
 * and sends are still taken, until the program closes it or the time to drain is over; without it, it is
 * closed when what was queued is out. Once, for each connection that is open then. Runs on the connection's
 * worker.
 */
typedef void (*ahoy_drain_fn)(ahoy_conn conn, void *user);

/**
 * What `ahoy_server_start` needs to know. Set `size`, leave the rest zero for the defaults:
 *
 *     ahoy_server_options options = { .size = sizeof options, .listen = "tcp://127.0.0.1:9000" };
 */
typedef struct ahoy_server_options {
    /** sizeof(ahoy_server_options). */
    size_t size;
    /**
     * Where to listen: one URL, or several with commas between. NULL: nowhere (see `ahoy_server_adopt` and
     * `ahoy_connect`).
     */
    const char *listen;
    /**
     * Number of worker threads, at most 1024. 0: as many as the CPUs that this process may use.
     * AHOY_WORKERS_NONE: none, see `ahoy_server_turn`.
     */
    int32_t workers;
    /** AHOY_GREET_AUTO or AHOY_GREET_ON_OPEN. */
    int32_t greet;
    /** The greeting. NULL: "Hello from server". */
    const void *greeting;
    /** Length of the greeting in bytes. 0: `greeting` is a string that ends with a zero byte. */
    size_t greeting_bytes;
    /** Someone connected. May be NULL, as may every callback. */
    ahoy_open_fn on_open;
    /** A message arrived. NULL: connections are greeted and closed. */
    ahoy_message_fn on_message;
    /** There is room again after AHOY_ERR_AGAIN. */
    ahoy_writable_fn on_writable;
    /** The peer ended its side. NULL: the connection is closed when what was queued is out. */
    ahoy_end_fn on_end;
    /** The connection is over. */
    ahoy_close_fn on_close;
    /**
     * The server is over: called with `user` after the last callback of the last connection. Not called
     * when `ahoy_server_start` fails.
     */
    ahoy_free_fn on_free;
    /** Passed to every callback, unless `ahoy_conn_set_user` gave the connection its own. */
    void *user;
    /**
     * Connections at once, over all workers. More are accepted, closed and counted. The peers of
     * datagram sockets are among them: where strangers can send datagrams, give those a server of
     * their own. 0: 10,000.
     */
    uint32_t connections_max;
    /**
     * Longest message in bytes, received (with framing a longer one closes the connection, as soon as it
     * shows; without, longer reads come in parts) or sent (AHOY_ERR_TOO_LONG). 0: 1 MiB.
     */
    uint32_t message_bytes_max;
    /**
     * Bytes queued for one connection; then sends answer AHOY_ERR_AGAIN. At most 1 GiB, and never more than
     * 15/16 of `queue_total_bytes_max`. Sends of several threads at the same moment may pass it by a message
     * each. 0: 1 MiB.
     */
    uint32_t queue_bytes_max;
    /** Pending connections that the system keeps for each listener. 0: 4096 (the system may allow fewer). */
    uint32_t backlog;
    /**
     * Bytes queued for all connections together, partial messages received included; then sends answer
     * AHOY_ERR_AGAIN, and a connection that needs more for its partial message is closed (AHOY_ERR_OVERFLOW).
     * 0: 256 MiB.
     */
    uint64_t queue_total_bytes_max;
    /**
     * Milliseconds without traffic in either direction after which a connection is closed
     * (AHOY_ERR_TIMEOUT). 0: none, connections may be silent forever.
     */
    uint32_t idle_ms;
    /**
     * Milliseconds that a closing connection, or a stopping server, has to get what is queued out.
     * 0: 5,000.
     */
    uint32_t drain_ms;
    /** Not 0: set SO_REUSEPORT, so that several processes of one user can share a port. */
    int32_t reuse_port;
    /**
     * AHOY_FRAMING_RAW, _LINES, _LENGTH or _DELIMITER; of listeners whose URL does not say otherwise.
     * 0: RAW.
     */
    int32_t framing;
    /**
     * The server stops. NULL: connections are closed when what was queued is out. Since 0.2, as all that
     * follows.
     */
    ahoy_drain_fn on_drain;
    /** The particulars of `framing`; NULL: none. */
    const ahoy_framing_options *framing_options;
    /**
     * Milliseconds within which a message that has begun must be complete (AHOY_ERR_TIMEOUT); not
     * counted while the connection is paused. 0: 30,000. AHOY_MS_NEVER: none.
     */
    uint32_t message_ms;
    /**
     * Milliseconds that a peer may take nothing of what is queued for it (AHOY_ERR_TIMEOUT). 0: 60,000.
     * AHOY_MS_NEVER: none.
     */
    uint32_t write_ms;
    /**
     * Bytes queued for one connection from which on_writable is owed, though sends are still taken. 0,
     * or as much as `queue_bytes_max`: only from a refusal on.
     */
    uint32_t queue_high_bytes;
    /** Bytes queued at which on_writable comes. 0: half of `queue_high_bytes`. */
    uint32_t queue_low_bytes;
    /** AHOY_OVERFLOW_REFUSE or AHOY_OVERFLOW_CLOSE. */
    int32_t overflow;
    /**
     * `idle_ms` of datagram connections, which end in no other way. 0: 60,000. (A datagram has at most
     * 65,507 bytes when it is sent, and 64 KiB when it is received, whatever `message_bytes_max`
     * says.)
     */
    uint32_t datagram_idle_ms;
    /**
     * The cluster to be a member of: "nats://host:port,.../name", see `ahoy_cluster_options`. NULL: none; what
     * clusters share is shared within the process. Since 0.3, as all that follows.
     */
    const char *cluster;
    /** The particulars of `cluster`; NULL: none. */
    const ahoy_cluster_options *cluster_options;
    /** The cluster was joined, lost, or joined again. */
    ahoy_cluster_state_fn on_cluster_state;
    /** Another member of the cluster has come, gone, or changed its state. */
    ahoy_member_fn on_member;
    /**
     * What the workers run on: AHOY_DRIVER_AUTO, AHOY_DRIVER_EPOLL or AHOY_DRIVER_URING. Since 0.4, as all that
     * follows.
     */
    int32_t driver;
} ahoy_server_options;

/** What a server has done so far. Every count runs from the start; bytes are payload. */
typedef struct ahoy_stats {
    /** sizeof(ahoy_stats); set it before the call. */
    size_t size;
    /** Worker threads (1 with AHOY_WORKERS_NONE). */
    uint64_t workers;
    /** Connections now, those that are being opened or closed included. */
    uint64_t connections;
    /** Connections open now on the worker that has most of them. */
    uint64_t connections_worker_max;
    /**
     * Connections opened so far: accepted, adopted, met as peers of a datagram socket, or begun by
     * `ahoy_connect`.
     */
    uint64_t opened;
    /** Connections closed so far: on_close has returned. */
    uint64_t closed;
    /** Accepted and closed at once, because `connections_max` was reached. */
    uint64_t refused;
    /** Given up by the peer before they could be accepted (ECONNABORTED and the like). */
    uint64_t aborted;
    /** Times that a listener rested 100 ms, because descriptors or memory ran out. */
    uint64_t rests;
    /** Messages received: calls of on_message, or first bytes that were greeted. */
    uint64_t messages_in;
    /** Bytes received. */
    uint64_t bytes_in;
    /** Bytes handed to the system. */
    uint64_t bytes_out;
    /** Bytes queued now. */
    uint64_t bytes_queued;
    /** Bytes that were queued but never handed to the system: the connection was over first. */
    uint64_t bytes_cut;
    /** Connections that had such bytes. */
    uint64_t connections_cut;
    /** Bugs of the library that were caught. */
    uint64_t panics;
    /**
     * Messages taken for sending: by sends, greetings, and publishes (for each connection). Since 0.2, as all
     * that follows.
     */
    uint64_t messages_out;
    /**
     * Messages that were refused because a queue was full: sends that answered AHOY_ERR_AGAIN or
     * AHOY_ERR_OVERFLOW.
     */
    uint64_t messages_refused;
    /** Messages published. */
    uint64_t published;
    /**
     * Publishes that passed a connection by (for each connection): its queue was full, its frame cannot hold so
     * much, or there was no memory.
     */
    uint64_t published_dropped;
    /**
     * Datagrams dropped: of a paused connection, of a new peer over `connections_max`, longer than
     * `message_bytes_max`, or refused by the system when sent.
     */
    uint64_t datagrams_dropped;
    /** Outgoing connections that are being opened now. */
    uint64_t connecting;
    /** Tries to open one that failed. */
    uint64_t connects_failed;
    /** Bytes of partial messages kept now. */
    uint64_t bytes_partial;
    /** Timers of the program that are running now. */
    uint64_t timers;
    /** Turns of the workers. */
    uint64_t turns;
} ahoy_stats;

/**
 * Starts a server: all its listeners listen and all its workers run when this returns.
 *
 * @param options  copied, with the strings in it, before this returns.
 * @param server   receives the handle; written on success only.
 * @return AHOY_OK. AHOY_ERR_NULL, _SIZE, _ENUM, _INVALID: what is wrong with the options.
 *         AHOY_ERR_URL, _PORT, _PATH_TOO_LONG: with an address. AHOY_ERR_ADDRESS_IN_USE,
 *         _ADDRESS_UNAVAILABLE, _PERMISSION, _NOT_FOUND: what the system says to it.
 *         AHOY_ERR_DESCRIPTORS, _MEMORY, _THREAD: what ran out. After an error nothing is left: no thread,
 *         no descriptor, no socket file, and `user` is still the program's.
 *
 * It does not wait for the cluster: that is joined as soon as it can be (on_cluster_state tells). With `join_ms` in
 * `ahoy_cluster_options` it does wait, and AHOY_ERR_DISCONNECTED, _CREDENTIALS, _CERTIFICATE, _NAME, _NODE_TAKEN
 * say why it was in vain.
 *
 * A socket file that a dead process left behind is replaced; one where somebody still listens is not
 * (AHOY_ERR_ADDRESS_IN_USE). Callbacks may run before this returns.
 *
 * "fd:N" takes over a socket that listens already, or a bound datagram socket: on success it belongs
 * to the server. "systemd:" listens on what systemd passes (LISTEN_FDS; "systemd:NAME": those of that
 * FileDescriptorName), on copies, and then tells it READY=1 and, at the stop, STOPPING=1, if it asks
 * for that (NOTIFY_SOCKET). AHOY_ERR_NOT_FOUND: systemd passed no such socket. Since 0.1.
 */
ahoy_status ahoy_server_start(const ahoy_server_options *options, ahoy_server *server);

/**
 * Stops a server: it accepts no more, what is queued for each connection is sent, and each connection
 * is closed as soon as its queue is empty (on_close: AHOY_ERR_STOPPED). With an on_drain it is called
 * instead, and the program closes each connection when it is done with it. What is left after
 * `drain_ms` is cut off, and counted (see `ahoy_stats`).
 *
 * @param drain_ms  milliseconds; 0: cut at once what the system does not take; AHOY_DRAIN_DEFAULT: the
 *                  server's `drain_ms`. A later stop can shorten the time, never lengthen it.
 * @return AHOY_OK, also when it stops already. AHOY_ERR_STALE, AHOY_ERR_INVALID.
 *
 * Does not wait: see `ahoy_server_wait`. Legal in every callback. Since 0.1.
 */
ahoy_status ahoy_server_stop(ahoy_server server, int32_t drain_ms);

/**
 * Waits until a server has stopped: every on_close and on_free has returned. It does not stop it: some
 * other thread, a callback or a signal handler's thread does. With AHOY_WORKERS_NONE this call runs the
 * turns meanwhile.
 *
 * @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_DEADLOCK inside a callback.
 *
 * Signal handlers that run meanwhile do not end it. Since 0.1.
 */
ahoy_status ahoy_server_wait(ahoy_server server);

/**
 * Frees a server: its handle is stale from here on. If it runs, it is stopped as by `ahoy_server_stop`
 * with 0. Outside of callbacks this waits until every on_close and on_free has returned and the threads
 * have ended; inside a callback it returns at once and the rest follows.
 * A stale or zero handle: does nothing. Since 0.1.
 */
void ahoy_server_free(ahoy_server server);

/**
 * Writes the URL of a listener, with the port that it really has: "tcp://127.0.0.1:41873".
 *
 * @param index     0 for the first listener, in the order of the options (a name with several addresses
 *                  counts as several).
 * @param text      receives the URL and a zero byte.
 * @param capacity  size of `text` in bytes; 128 suffice.
 * @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_INVALID: no such listener. AHOY_ERR_NULL.
 *         AHOY_ERR_TOO_LONG: `text` is too small, and unchanged.
 *
 * Since 0.1.
 */
ahoy_status ahoy_server_address(ahoy_server server, size_t index, char *text, size_t capacity);

/**
 * Hands a connected stream socket over to a server: from here on it is one of the server's connections.
 *
 * @param fd    the socket. On success it belongs to the server, which makes it non-blocking and
 *              close-on-exec; on an error it stays the program's.
 * @param conn  receives the handle, at once, before on_open; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_BAD_DESCRIPTOR: not a connected stream socket.
 *         AHOY_ERR_AGAIN: `connections_max` is reached. AHOY_ERR_STOPPED. AHOY_ERR_MEMORY.
 *
 * Since 0.1.
 */
ahoy_status ahoy_server_adopt(ahoy_server server, int fd, ahoy_conn *conn);

/**
 * Tells what a server has done so far, also after it has stopped.
 *
 * @param stats  its `size` says how much of it is written.
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL, AHOY_ERR_SIZE.
 *
 * Each number is exact; numbers of different workers may be moments apart. Since 0.1.
 */
ahoy_status ahoy_server_stats(ahoy_server server, ahoy_stats *stats);

/**
 * The descriptor to wait on (poll, select, epoll: readable) when the program's own loop is the worker.
 * When it is readable, call `ahoy_server_turn`. It belongs to the server: do not read or close it.
 *
 * @param fd  receives the descriptor; written on success only.
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. AHOY_ERR_UNSUPPORTED: the server has worker threads.
 *
 * Since 0.1.
 */
ahoy_status ahoy_server_fd(ahoy_server server, int *fd);

/**
 * One turn of a server without worker threads: waits at most `timeout_ms` for something to happen, and
 * runs the callbacks of all that has happened.
 *
 * @param timeout_ms  0: do not wait. -1: wait without limit.
 * @return AHOY_OK, also when nothing happened or a signal handler ran. AHOY_ERR_STOPPED: the server has
 *         stopped and every callback has run; there will be no further turn. AHOY_ERR_STALE.
 *         AHOY_ERR_UNSUPPORTED: the server has worker threads. AHOY_ERR_BUSY: another thread is in a
 *         turn. AHOY_ERR_DEADLOCK: inside a callback. AHOY_ERR_INVALID: `timeout_ms` is less than -1.
 *
 * Not for two threads at a time; they may take turns. Since 0.1.
 */
ahoy_status ahoy_server_turn(ahoy_server server, int32_t timeout_ms);

/* ==============================================================================================
 * Connection
 *
 * What a program does with one connection, inside its callbacks or from any thread.
 * ============================================================================================== */

/** Memory that is a part of a message. (As a `struct iovec`.) */
typedef struct ahoy_part {
    /** Where it starts; NULL if `len` is 0. */
    const void *data;
    /** Its length in bytes. */
    size_t len;
} ahoy_part;

/**
 * Sends one message of `len` bytes, in the frame that the connection's framing demands. It is copied, queued,
 * and leaves in the order of the calls; what is sent inside one turn of the worker leaves in one
 * system call. (A long answer to the connection whose message is just being delivered, and for which nothing is queued,
 * is not copied: what the system takes of it leaves at once.) On a datagram connection a message is a datagram.
 *
 * @return AHOY_OK: queued. Nothing was queued on an error:
 *         AHOY_ERR_AGAIN: `queue_bytes_max` or `queue_total_bytes_max` is reached; on_writable tells
 *         when to try again. AHOY_ERR_OVERFLOW: `queue_bytes_max` is reached, and the server's `overflow` is
 *         AHOY_OVERFLOW_CLOSE: the connection closes. AHOY_ERR_TOO_LONG: longer than `message_bytes_max`,
 *         `queue_bytes_max` or the framing allow at all. AHOY_ERR_CLOSED: the connection is closing, or
 *         `ahoy_conn_end` was called. AHOY_ERR_STALE. AHOY_ERR_NULL: `data` is NULL and `len` is not 0.
 *         AHOY_ERR_MEMORY.
 *
 * AHOY_OK does not say that the peer has received it; what could not be delivered is counted in
 * `ahoy_stats`. Without framing sending 0 bytes does nothing; with framing it sends an empty message.
 * Since 0.1.
 */
ahoy_status ahoy_send(ahoy_conn conn, const void *data, size_t len);

/**
 * Sends one message that lies in several places: all of it or, on an error, nothing.
 *
 * @param parts  in order; NULL if `count` is 0.
 * @param count  how many.
 * @return as `ahoy_send`. Since 0.2.
 */
ahoy_status ahoy_send_parts(ahoy_conn conn, const ahoy_part *parts, size_t count);

/**
 * Sends a message of `len` bytes without copying them: they belong to the library until `on_free` is
 * called, exactly once, with `user`, when they are sent or can no longer be. For memory from
 * malloc(3):
 *
 *     ahoy_send_owned(conn, data, len, free, data);
 *
 * @param on_free  called from any thread; NULL: nothing, for memory that lives as long as the program.
 * @return as `ahoy_send`. On an error the memory stays the program's and `on_free` is not called.
 *
 * Worth it from some KiB on. Each call counts 64 bytes more in the limits. Since 0.1.
 */
ahoy_status ahoy_send_owned(ahoy_conn conn, const void *data, size_t len, ahoy_free_fn on_free,
                            void *user);

/**
 * Sends the server's greeting, as `ahoy_send` would.
 *
 * @return as `ahoy_send`. Since 0.1.
 */
ahoy_status ahoy_conn_greet(ahoy_conn conn);

/**
 * Closes a connection: no further message comes, what is queued is sent, and on_close follows. If the
 * peer does not take it within the server's `drain_ms`, the rest is cut off. If the peer has sent what was
 * not read, on_close comes up to a second later: a close at once would reset the connection and destroy
 * what is on its way.
 *
 * @return AHOY_OK, also when it is closing already. AHOY_ERR_STALE. AHOY_ERR_MEMORY.
 *
 * on_close never runs inside this call. Since 0.1.
 */
ahoy_status ahoy_conn_close(ahoy_conn conn);

/**
 * Closes a connection at once: what is queued is cut off and counted (`bytes_cut`), and a TCP peer sees a
 * reset. on_close follows.
 *
 * @return AHOY_OK, also when it is closing already (then it no longer waits). AHOY_ERR_STALE. AHOY_ERR_AGAIN: the
 *         worker's mailbox is full. AHOY_ERR_MEMORY.
 *
 * on_close never runs inside this call. Since 0.2.
 */
ahoy_status ahoy_conn_abort(ahoy_conn conn);

/**
 * Ends our side (a half-close): what is queued is sent, then the peer sees the end. Messages still
 * come, until the peer ends its side as well (then the connection closes: AHOY_ERR_EOF) or the program
 * closes.
 *
 * @return AHOY_OK, also when it has ended already. AHOY_ERR_CLOSED: it is closing. AHOY_ERR_STALE.
 *         AHOY_ERR_MEMORY. AHOY_ERR_UNSUPPORTED: it is a datagram connection.
 *
 * Since 0.2.
 */
ahoy_status ahoy_conn_end(ahoy_conn conn);

/**
 * Bytes queued for a connection and not yet handed to the system, as the limits count them: frames
 * included, and 64 more for each `ahoy_send_owned` and publish; 0 for a stale handle. From another
 * thread it is a moment old. If it is `queue_high_bytes` or more, on_writable follows when it has
 * fallen. Since 0.2.
 */
size_t ahoy_conn_queued(ahoy_conn conn);

/**
 * Pauses reading: no further message comes until `ahoy_conn_resume`, and the peer is held back by its own
 * full buffers. Called in a callback of the connection it holds from the next message on; from
 * another thread some may still come. A paused connection may not notice that its peer ended. (A datagram
 * socket has many peers and cannot be paused: datagrams of a paused one are dropped, and counted.)
 *
 * @return AHOY_OK, also when it is paused already. AHOY_ERR_STALE. AHOY_ERR_AGAIN: the worker's mailbox is
 *         full.
 *
 * Since 0.1.
 */
ahoy_status ahoy_conn_pause(ahoy_conn conn);

/**
 * Goes on reading after `ahoy_conn_pause`.
 *
 * @return as `ahoy_conn_pause`. Since 0.1.
 */
ahoy_status ahoy_conn_resume(ahoy_conn conn);

/**
 * Writes the peer's address as a URL, such as "tcp://192.0.2.7:50312" or "udp://192.0.2.7:5353";
 * "unix:" or "unixgram:", without a path, for one on a Unix socket.
 *
 * @param text      receives the URL and a zero byte.
 * @param capacity  size of `text` in bytes; 64 suffice.
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. AHOY_ERR_TOO_LONG: `text` is too small, and unchanged.
 *
 * Also in on_close. Since 0.1.
 */
ahoy_status ahoy_conn_peer(ahoy_conn conn, char *text, size_t capacity);

/**
 * The connection's user data: what `ahoy_conn_set_user` set, else the server's `user`. NULL for a stale
 * handle. Since 0.1.
 */
void *ahoy_conn_user(ahoy_conn conn);

/**
 * Gives a connection user data of its own, which its callbacks get from here on.
 *
 * @param on_free  called exactly once with `user`: after on_close, or when other user data takes its place.
 *                 NULL: nothing to free.
 * @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_AGAIN (the worker's
 *         mailbox is full), AHOY_ERR_MEMORY.
 *
 * From another thread it takes effect with the worker's next turn. Since 0.1.
 */
ahoy_status ahoy_conn_set_user(ahoy_conn conn, void *user, ahoy_free_fn on_free);

/** The server of a connection; zero for a stale handle. Since 0.1. */
ahoy_server ahoy_conn_server(ahoy_conn conn);

/* ==============================================================================================
 * Timers
 *
 * A timer belongs to a server or to a connection, and ends with it. Its callback runs on a worker: on the
 * connection's, if it has one, and never at the same time as another callback of that connection. The
 * clock is monotonic; a timer is never early, and late only by what its worker is doing. Starting and
 * cancelling take the same short time, however many timers there are.
 * ============================================================================================== */

/**
 * A timer's time has come. `conn` is the connection that it belongs to; `id` 0: it belongs to a server. Any
 * call is legal, also cancelling `timer`.
 */
typedef void (*ahoy_timer_fn)(ahoy_timer timer, ahoy_conn conn, void *user);

/**
 * Starts a timer of a server. Called in a callback it runs on the same worker, otherwise on any one.
 *
 * @param after_ms  milliseconds until `on_timer` is called first; 0: at the next turn.
 * @param every_ms  milliseconds between later calls; 0: there is one call.
 * @param user      passed to `on_timer`.
 * @param on_free   called exactly once with `user` when the timer is over: it has run for the last time,
 *                  was cancelled, or what it belongs to is gone. NULL: nothing to free.
 * @param timer     receives the handle, before `on_timer` can run; NULL if you do not need it.
 * @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL
 *         (`on_timer`), AHOY_ERR_MEMORY, AHOY_ERR_AGAIN (the worker's mailbox is full).
 *
 * A call that comes late does not lead to two in a row. Since 0.2.
 */
ahoy_status ahoy_timer_start(ahoy_server server, uint32_t after_ms, uint32_t every_ms,
                             ahoy_timer_fn on_timer, void *user, ahoy_free_fn on_free,
                             ahoy_timer *timer);

/**
 * Starts a timer of a connection, as `ahoy_timer_start`: it is cancelled when the connection is over, before
 * on_close.
 *
 * @return as `ahoy_timer_start`. Since 0.2.
 */
ahoy_status ahoy_conn_timer_start(ahoy_conn conn, uint32_t after_ms, uint32_t every_ms,
                                  ahoy_timer_fn on_timer, void *user, ahoy_free_fn on_free,
                                  ahoy_timer *timer);

/**
 * Cancels a timer. Called on its worker, in a callback, it will not run again. From another thread it
 * may still run once; its `on_free` says when it is over.
 *
 * @return AHOY_OK. AHOY_ERR_STALE: it is over already. AHOY_ERR_AGAIN: the worker's mailbox is full.
 *
 * Since 0.2.
 */
ahoy_status ahoy_timer_cancel(ahoy_timer timer);

/* ==============================================================================================
 * Topics
 *
 * A topic is a name. Whoever publishes to it reaches every connection that has joined it and every function
 * that has subscribed to it. It is there as long as somebody is in it. Names are 1 to 255 bytes of UTF-8.
 *
 * One publish copies the data once, however many connections get it. What one thread publishes to a topic
 * reaches each connection in that order. A connection whose queue is full does not hold up the others: it
 * misses the message (counted in `ahoy_stats`; on_writable tells when there is room), or it is closed, as the
 * server's `overflow` says.
 * ============================================================================================== */

/**
 * Someone has published: `len` bytes at `data`, which live until this returns, as does `topic`. Runs on a
 * worker; calls of one subscription never overlap and keep their order. Any call is legal.
 */
typedef void (*ahoy_topic_fn)(ahoy_server server, const char *topic, const void *data, size_t len,
                              void *user);

/**
 * A count of a topic is done: `connections` are in it. `status` is AHOY_OK; AHOY_ERR_TIMEOUT: `silent` nodes have not
 * answered in time, and theirs are missing; AHOY_ERR_DISCONNECTED, AHOY_ERR_STOPPED: nothing was counted. Runs on a
 * worker. Any call is legal.
 */
typedef void (*ahoy_topic_count_fn)(ahoy_server server, ahoy_status status, uint64_t connections,
                                    size_t silent, void *user);

/**
 * Lets a connection join a topic: from here on it is sent what is published there, with its own framing.
 *
 * @return AHOY_OK, also when it has joined already. AHOY_ERR_STALE. AHOY_ERR_CLOSED: it is closing.
 *         AHOY_ERR_INVALID: the name is empty or not UTF-8. AHOY_ERR_TOO_LONG: it is longer than 255 bytes.
 *         AHOY_ERR_AGAIN: the connection is in 1,024 topics (from another thread that is only logged), or the
 *         worker's mailbox is full. AHOY_ERR_NULL, AHOY_ERR_MEMORY.
 *
 * It leaves every topic when it closes. Since 0.2.
 */
ahoy_status ahoy_conn_join(ahoy_conn conn, const char *topic);

/**
 * Lets a connection leave a topic.
 *
 * @return AHOY_OK, also when it is not in it. Errors as `ahoy_conn_join`. Since 0.2.
 */
ahoy_status ahoy_conn_leave(ahoy_conn conn, const char *topic);

/**
 * Sends `len` bytes to everybody in a topic, on every node of the cluster: connections and subscribers. Does not wait
 * for them.
 *
 * @return AHOY_OK: on its way, also when nobody is in the topic. On an error nobody gets it: AHOY_ERR_STALE,
 *         AHOY_ERR_STOPPED, AHOY_ERR_NULL. AHOY_ERR_MEMORY: but other nodes may. AHOY_ERR_INVALID,
 *         AHOY_ERR_TOO_LONG: the name (see `ahoy_conn_join`), or the data is longer than `message_bytes_max`.
 *         AHOY_ERR_AGAIN: `queue_total_bytes_max` is reached, or too much waits to be sent to the cluster.
 *         AHOY_ERR_DISCONNECTED: the cluster cannot be reached at present; those of this node get it all the same.
 *
 * Between nodes it is delivered at most once. Until the last has sent it, it counts once in `queue_total_bytes_max`,
 * with its name and some hundred bytes more. Since 0.2.
 */
ahoy_status ahoy_publish(ahoy_server server, const char *topic, const void *data, size_t len);

/**
 * Lets a function of the program hear what is published to a topic.
 *
 * @param on_message    called for each message from here on.
 * @param user          passed to `on_message`.
 * @param on_free       called exactly once with `user` when the subscription is over: unsubscribed, or the
 *                      server has stopped. NULL: nothing to free.
 * @param subscription  receives the handle; NULL if you do not need it.
 * @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL
 *         (`topic`, `on_message`), AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG, AHOY_ERR_MEMORY, AHOY_ERR_AGAIN.
 *
 * Since 0.2.
 */
ahoy_status ahoy_subscribe(ahoy_server server, const char *topic, ahoy_topic_fn on_message,
                           void *user, ahoy_free_fn on_free, ahoy_subscription *subscription);

/**
 * Ends a subscription. Called on its worker, in a callback, it is not called again. From another thread it may
 * still be called; its `on_free` says when it is over.
 *
 * @return AHOY_OK. AHOY_ERR_STALE: it is over already. AHOY_ERR_AGAIN: the worker's mailbox is full.
 *
 * Since 0.2.
 */
ahoy_status ahoy_unsubscribe(ahoy_subscription subscription);

/**
 * Counts the connections that are in a topic, on every node of the cluster: each node is asked for its own.
 *
 * @param on_count  told what it came to, exactly once, after this has returned AHOY_OK.
 * @param user      passed to `on_count`.
 * @return AHOY_OK: `on_count` will be called, a second from now at the latest. On an error it will not be:
 *         AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG (the name),
 *         AHOY_ERR_DISCONNECTED: the cluster cannot be reached at present. AHOY_ERR_AGAIN: too many calls are under way.
 *
 * Functions that have subscribed do not count. Since 0.3.
 */
ahoy_status ahoy_topic_count(ahoy_server server, const char *topic, ahoy_topic_count_fn on_count,
                             void *user);

/**
 * Counts the connections that are in a topic, on every node of the cluster, and waits for it.
 *
 * @param connections  receives how many there are.
 * @return AHOY_OK. AHOY_ERR_TIMEOUT: some nodes have not answered within a second; `connections` are those of the
 *         others. AHOY_ERR_DEADLOCK: inside a callback. AHOY_ERR_STOPPED: also when the server stops meanwhile.
 *         Other errors as `ahoy_topic_count`. Since 0.3.
 */
ahoy_status ahoy_topic_count_wait(ahoy_server server, const char *topic, uint64_t *connections);

/* ==============================================================================================
 * Addresses
 *
 * An address names a connection in the whole cluster, for good: with it any node can send to the connection, whichever node
 * has it. As text it can be stored, or passed on; there any NATS client can use it, too (docs/CLUSTER.md). It is good
 * until the connection is over, and never another's.
 * ============================================================================================== */

/** Size of an address as text: 32 digits and a zero byte. */
#define AHOY_ADDRESS_TEXT_BYTES 33

/** A connection of any node. All zero: none. */
typedef struct ahoy_address {
    /** Opaque: which life of which node has it (`incarnation` in `ahoy_member`). */
    uint64_t node;
    /** Opaque: which of that node's. */
    uint64_t conn;
} ahoy_address;

/**
 * It is known what became of a message: AHOY_OK, or why it was not queued; see `ahoy_send_to_confirmed`. Runs on a worker.
 * Any call is legal.
 */
typedef void (*ahoy_sent_fn)(ahoy_server server, ahoy_status status, void *user);

/**
 * Tells the address of a connection of this process.
 *
 * @param address  receives it.
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. Since 0.3.
 */
ahoy_status ahoy_conn_address(ahoy_conn conn, ahoy_address *address);

/**
 * Writes an address as 32 hexadecimal digits and a zero byte.
 *
 * @param text      receives them.
 * @param capacity  size of `text` in bytes: at least AHOY_ADDRESS_TEXT_BYTES.
 * @return AHOY_OK. AHOY_ERR_NULL. AHOY_ERR_TOO_LONG: `text` is too small, and unchanged. Since 0.3.
 */
ahoy_status ahoy_address_text(ahoy_address address, char *text, size_t capacity);

/**
 * Reads an address that `ahoy_address_text` has written. Whether there is such a connection is not asked.
 *
 * @param address  receives it; written on success only.
 * @return AHOY_OK. AHOY_ERR_INVALID: it is none. AHOY_ERR_NULL. Since 0.3.
 */
ahoy_status ahoy_address_parse(const char *text, ahoy_address *address);

/**
 * Sends one message of `len` bytes to a connection of any node, at most once: in the frame that the connection's framing
 * demands, as `ahoy_send` there. It is copied.
 *
 * @return AHOY_OK: queued, if it is a connection of this server; otherwise on its way, and whether it arrives is not
 *         told. For one of this server's own: what `ahoy_send` says, but AHOY_ERR_STALE also where it is closing.
 *         Otherwise AHOY_ERR_DISCONNECTED: the cluster cannot be reached at present. AHOY_ERR_AGAIN: too much waits
 *         to be sent to the cluster. AHOY_ERR_TOO_LONG: longer than the NATS servers allow. AHOY_ERR_STALE: the
 *         server has no cluster, or is none. AHOY_ERR_NULL, AHOY_ERR_STOPPED.
 *
 * What one thread sends to one address arrives in that order. Since 0.3.
 */
ahoy_status ahoy_send_to(ahoy_server server, ahoy_address address, const void *data, size_t len);

/**
 * The same, and tells what became of it. It has no order with what `ahoy_send_to` sends.
 *
 * @param on_done  told exactly once, after this has returned AHOY_OK: AHOY_OK: the message is queued on the connection, at
 *                 its node. AHOY_ERR_STALE: the connection is closing or gone, or its node is.
 *                 AHOY_ERR_UNKNOWN_OUTCOME: the answer is lost; it may be queued or not. Else it is not:
 *                 AHOY_ERR_AGAIN, AHOY_ERR_OVERFLOW: its queue is full; AHOY_ERR_TOO_LONG, AHOY_ERR_MEMORY: what
 *                 `ahoy_send` says there; AHOY_ERR_DISCONNECTED: its node, or this one, could not reach the cluster
 *                 for the whole time; AHOY_ERR_STOPPED: this server has stopped before it was known.
 * @param user     passed to `on_done`.
 * @return AHOY_OK: `on_done` will be called, within `timeout_ms` of the cluster's options. On an error it will not be, and
 *         nothing was sent: AHOY_ERR_STALE (the server), AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_DISCONNECTED,
 *         AHOY_ERR_MEMORY. AHOY_ERR_AGAIN: too many calls are under way.
 *
 * Since 0.3.
 */
ahoy_status ahoy_send_to_confirmed(ahoy_server server, ahoy_address address, const void *data,
                                   size_t len, ahoy_sent_fn on_done, void *user);

/**
 * The same, and waits for it.
 *
 * @return What `ahoy_send_to_confirmed` returns, or else what `on_done` would be told. AHOY_ERR_DEADLOCK: inside a
 *         callback; nothing was sent.
 *
 * Since 0.3.
 */
ahoy_status ahoy_send_to_confirmed_wait(ahoy_server server, ahoy_address address, const void *data,
                                        size_t len);

/* ==============================================================================================
 * Services
 *
 * A service is a name, and a function that answers calls. Any number of nodes may offer it; each call is answered by
 * one of them, our own included. Without a cluster all of this works inside the process. NATS clients take part:
 * a service listens on CLUSTER.service.NAME, and answers what NATS tools ask about services ($SRV.PING, $SRV.INFO,
 * $SRV.STATS). Names are 1 to 64 letters, digits, - and _.
 *
 * A call is answered once, or its outcome is unknown: AHOY_ERR_UNKNOWN_OUTCOME says that it may have been done or not,
 * because the node that had it died, the link was lost meanwhile, or the time was up. Only a call that
 * is marked as idempotent is ever sent a second time.
 * ============================================================================================== */

/** The particulars of a service. Leave zero what you do not need. */
typedef struct ahoy_service_options {
    /** sizeof(ahoy_service_options). */
    size_t size;
    /** Calls that may be in hand, not answered yet. Those beyond are refused, and their callers get AHOY_ERR_AGAIN. 0: 1,024. */
    uint32_t in_hand_max;
    /** Milliseconds after which a call that is not answered is answered for the program: it failed. 0: 60,000. */
    uint32_t answer_ms;
    /** Version, for those who ask about services: three numbers, as in "1.2.0". NULL: "0.0.0". */
    const char *version;
    /** What it does, for people: up to 1,024 bytes. NULL: nothing. */
    const char *description;
} ahoy_service_options;

/** A call that is to be answered. `id` 0: none. Valid until it is answered, by the program or for it. */
typedef struct ahoy_incoming {
    /** Opaque. */
    uint64_t id;
} ahoy_incoming;

/**
 * A call has come, with `len` bytes at `data`, which live until this returns. Answer it with `ahoy_reply` or
 * `ahoy_reply_failed`, in here or later. Runs on any of the workers, and on several at once. Any call is legal.
 */
typedef void (*ahoy_service_fn)(ahoy_incoming call, const void *data, size_t len, void *user);

/** A service that this server offers. `id` 0: none. Valid until `ahoy_offer_end`, or until the server stops. */
typedef struct ahoy_offer {
    /** Opaque. */
    uint64_t id;
} ahoy_offer;

/** The particulars of a call. Leave zero what you do not need. */
typedef struct ahoy_call_options {
    /** sizeof(ahoy_call_options). */
    size_t size;
    /** Milliseconds to wait for the answer. 0: 5,000. */
    uint32_t timeout_ms;
    /** 1: to do it twice does no harm. If the node that has it dies, or the link is lost, it is sent once more. */
    int32_t idempotent;
} ahoy_call_options;

/**
 * What came of a call. With AHOY_OK `len` bytes at `data` are the answer; with AHOY_ERR_FAILED they are the text with
 * which the service says why; otherwise they say what happened, for people. They live until this returns.
 * Runs once for each call, on a worker. Any call is legal.
 */
typedef void (*ahoy_reply_fn)(ahoy_server server, ahoy_status status, const void *data, size_t len,
                              void *user);

/**
 * Offers a service. While the cluster cannot be reached it is offered to nobody, and to all again when it can.
 *
 * @param options  NULL: the defaults.
 * @param handler  called for each call.
 * @param user     passed to `handler`.
 * @param on_free  called exactly once with `user`, on a worker, when `handler` will not be called any more: the service
 *                 was ended, or the server has stopped. NULL: nothing to free.
 * @param offer    receives the handle; NULL if you do not need it.
 * @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL (`name`,
 *         `handler`), AHOY_ERR_INVALID (`name`, `version`), AHOY_ERR_TOO_LONG, AHOY_ERR_SIZE, AHOY_ERR_MEMORY.
 *
 * A server that stops takes no further call; those in hand may be answered until its time to drain is over.
 * Since 0.3.
 */
ahoy_status ahoy_service(ahoy_server server, const char *name, const ahoy_service_options *options,
                         ahoy_service_fn handler, void *user, ahoy_free_fn on_free,
                         ahoy_offer *offer);

/**
 * Ends the offer of a service. Calls that are on their way may still come; its `on_free` says when that is over. Those in
 * hand can be answered as before.
 *
 * @return AHOY_OK. AHOY_ERR_STALE: it is over already.
 *
 * Since 0.3.
 */
ahoy_status ahoy_offer_end(ahoy_offer offer);

/**
 * Answers a call with `len` bytes at `data`. From any thread. While the cluster cannot be reached the answer waits.
 *
 * @return AHOY_OK: on its way. AHOY_ERR_STALE: the call is answered already, by the program or, when its time was up or
 *         the server stopped, for it. AHOY_ERR_TOO_LONG: the cluster carries at most 1 MiB, or what its servers
 *         are set to; the call is still to be answered. AHOY_ERR_AGAIN: 64 MiB of answers wait for the cluster already;
 *         this one is lost, and the call is over. AHOY_ERR_NULL, AHOY_ERR_MEMORY, AHOY_ERR_STOPPED.
 *
 * Since 0.3.
 */
ahoy_status ahoy_reply(ahoy_incoming call, const void *data, size_t len);

/**
 * Answers a call: it failed. The caller gets AHOY_ERR_FAILED and the text; line ends become spaces.
 *
 * @return As `ahoy_reply`; AHOY_ERR_TOO_LONG: the text has more than 1,024 bytes. Since 0.3.
 */
ahoy_status ahoy_reply_failed(ahoy_incoming call, const char *why);

/**
 * Calls a service with `len` bytes at `data`, and does not wait for the answer.
 *
 * @param options   NULL: the defaults.
 * @param on_reply  called exactly once with what came of it, if this returns AHOY_OK; never inside of this call.
 * @param user      passed to `on_reply`.
 * @return AHOY_OK: on its way. On an error `on_reply` is not called: AHOY_ERR_DISCONNECTED: the cluster cannot be reached
 *         at present. AHOY_ERR_TOO_LONG: the cluster carries at most 1 MiB, or what its servers are set to.
 *         AHOY_ERR_AGAIN: 65,536 calls are under way, or too much waits to be sent, or 64 MiB of idempotent calls
 *         are kept. AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_INVALID, AHOY_ERR_SIZE,
 *         AHOY_ERR_MEMORY.
 *
 * `on_reply` gets AHOY_OK, or AHOY_ERR_FAILED: the service says so. AHOY_ERR_NO_SERVICE, at once: nobody offers it.
 * AHOY_ERR_AGAIN: the node that got it has too many in hand, and has not begun. AHOY_ERR_UNKNOWN_OUTCOME: see above.
 * AHOY_ERR_STOPPED: this server stopped before the answer came. A stop waits for calls under way until
 * its time to drain is over. Since 0.3.
 */
ahoy_status ahoy_call(ahoy_server server, const char *name, const void *data, size_t len,
                      const ahoy_call_options *options, ahoy_reply_fn on_reply, void *user);

/**
 * Calls a service with `data_len` bytes at `data`, and waits for the answer. With a loop of the program's own it runs
 * the turns meanwhile.
 *
 * @param options   NULL: the defaults.
 * @param buffer    receives the answer.
 * @param capacity  how much it has room for.
 * @param len       receives the length of the answer, also of one that is too long. NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_TOO_LONG: the answer does not fit, and is lost; or the question is too long. AHOY_ERR_FAILED:
 *         the service says so; `ahoy_last_error` is its text. AHOY_ERR_DEADLOCK: called inside a callback. Otherwise
 *         as `ahoy_call` returns, or as its `on_reply` would get.
 *
 * Since 0.3.
 */
ahoy_status ahoy_call_wait(ahoy_server server, const char *name, const void *data, size_t data_len,
                           const ahoy_call_options *options, void *buffer, size_t capacity,
                           size_t *len);

/* ==============================================================================================
 * Buckets
 *
 * A bucket is a set of keys with values that every node of the cluster reads, changes and watches. Its servers keep it, with
 * copies (`replicas`), also when no node is there. Without a cluster it is in memory, or in a file.
 *
 * Each change gives its key a revision: a number that only grows, over all keys of the bucket. With
 * `ahoy_kv_create` and `ahoy_kv_update` a change is done only if the key is as the program has read it, whoever else
 * is at it. docs/CLUSTER.md says what is promised when servers fail, and how to build a lock.
 *
 * Keys are any 1 to 255 bytes; `key_bytes` 0 means that the key is a string that ends with a zero byte. Values are as long
 * as the servers allow (1 MiB, if nobody has said otherwise).
 *
 * Each call is there twice: as it is, it does not wait, and calls a function when it is done; with _wait it waits
 * for that, outside of callbacks only. The functions run on a worker, for one handle always the same, one after the
 * other. What is under way when the server stops is waited for, as connections are, and may end with AHOY_ERR_STOPPED.
 * ============================================================================================== */

/** As `reads`: what is read is the last that was acknowledged. It is asked of the server that leads the bucket. */
#define AHOY_KV_LEADER 0

/**
 * As `reads`: any server of the bucket may answer, which is faster; what is read may be older than the last. A new
 * bucket allows that to all programs. Watches and conditions are as exact as ever.
 */
#define AHOY_KV_STALE_OK 1

/** As `operation`: the key has this value. */
#define AHOY_KV_PUT 0

/** As `operation`: the key was deleted, or its time has passed. */
#define AHOY_KV_DELETE 1

/**
 * What a bucket is to be. Leave zero what you do not need. A bucket that is there already has to be so where it is
 * not zero.
 */
typedef struct ahoy_kv_options {
    /** sizeof(ahoy_kv_options). */
    size_t size;
    /**
     * Servers of the cluster that keep a copy: 1 to 5, of which more than half have to be there. 0: as it is; a new one has 3
     * where the cluster has three servers that are there, otherwise 1.
     */
    uint32_t replicas;
    /** Revisions of a key that are kept, for other NATS clients: 1 to 64. 0: as it is; a new one has 1. */
    uint32_t history;
    /** Milliseconds after which every value goes: 100 or more. 0: as it is; in a new one they stay. */
    uint64_t ttl_ms;
    /**
     * Bytes of all keys and values; a change that does not fit is refused (AHOY_ERR_AGAIN). NATS counts some more
     * for each. 0: as it is; a new one has no limit.
     */
    uint64_t bytes_max;
    /** AHOY_KV_LEADER or AHOY_KV_STALE_OK. */
    int32_t reads;
    /** 0. */
    int32_t reserved;
    /**
     * Without a cluster: the file that keeps the bucket; it is made if need be, and may keep several. All of it is
     * in memory as well. NULL: memory only, as long as the server runs.
     */
    const char *path;
} ahoy_kv_options;

/** A key at one revision. */
typedef struct ahoy_kv_entry {
    /** sizeof(ahoy_kv_entry). */
    size_t size;
    /** The key; a zero byte follows it. */
    const void *key;
    /** Its length. */
    size_t key_bytes;
    /** The value; a zero byte follows it. */
    const void *value;
    /** Its length. 0 also where a call has changed the key, whose value the program knows. */
    size_t value_bytes;
    /** Its revision. */
    uint64_t revision;
    /** AHOY_KV_PUT or AHOY_KV_DELETE. */
    int32_t operation;
    /** 0. */
    int32_t reserved;
} ahoy_kv_entry;

/**
 * A call on a bucket is done. `entry` lives until this returns; NULL unless `status` is AHOY_OK, and at the end of
 * `ahoy_kv_keys`. Runs on a worker. Any call is legal, but for those that wait.
 */
typedef void (*ahoy_kv_fn)(ahoy_kv kv, ahoy_status status, const ahoy_kv_entry *entry, void *user);

/** How a key is put. Leave zero what you do not need. */
typedef struct ahoy_kv_put_options {
    /** sizeof(ahoy_kv_put_options). */
    size_t size;
    /**
     * Milliseconds after which the key goes, unless it is put again meanwhile; only where the bucket's history is 1. In
     * a cluster it is rounded up to whole seconds. 0: with the bucket.
     */
    uint64_t ttl_ms;
} ahoy_kv_put_options;

/**
 * Opens a bucket, or makes it. Waits for the answer of the cluster's servers, but not for a cluster that is not joined:
 * that is AHOY_ERR_DISCONNECTED, at once.
 *
 * @param name     1 to 64 letters, digits, - and _. Other NATS clients know the bucket as CLUSTER_NAME.
 * @param options  NULL: the defaults.
 * @param kv       receives the handle, which is good until `ahoy_kv_close`, or until the server has stopped.
 * @return AHOY_OK. AHOY_ERR_INVALID: the name, or an option; or the bucket is there and is otherwise (`ahoy_last_error` says
 *         what); or `path` with a cluster. AHOY_ERR_REPLICAS: the cluster has fewer servers. AHOY_ERR_NO_STORE: its
 *         servers run without JetStream. AHOY_ERR_BUSY: another server, here or in another process, has the file.
 *         AHOY_ERR_DISCONNECTED, AHOY_ERR_TIMEOUT. AHOY_ERR_DEADLOCK: inside a callback. AHOY_ERR_UNSUPPORTED:
 *         `path`, and this build knows no files. AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _ENUM, _AGAIN, _MEMORY,
 *         _THREAD; and what the system says of the file: AHOY_ERR_PERMISSION, _NOT_FOUND, _SYSTEM.
 *
 * Each call gives a handle of its own. Since 0.3.
 */
ahoy_status ahoy_kv_open(ahoy_server server, const char *name, const ahoy_kv_options *options,
                         ahoy_kv *kv);

/**
 * Makes a handle stale, and ends its watches, as `ahoy_kv_unwatch` does. Calls that are under way end as they would have. The
 * bucket, and what is in it, stays.
 *
 * @return AHOY_OK. AHOY_ERR_STALE. Since 0.3.
 */
ahoy_status ahoy_kv_close(ahoy_kv kv);

/**
 * Reads a key.
 *
 * @param on_done  called exactly once, with the entry. AHOY_ERR_NO_KEY: there is none. AHOY_ERR_TIMEOUT: no server
 *                 has answered. AHOY_ERR_DISCONNECTED, _NO_STORE (the bucket was deleted), _STOPPED, _MEMORY.
 * @param user     passed to `on_done`.
 * @return AHOY_OK: `on_done` will be called. On an error it is not: AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG: the key.
 *         AHOY_ERR_DISCONNECTED. AHOY_ERR_AGAIN: 65,536 calls are under way. AHOY_ERR_STALE, _STOPPED, _NULL.
 *
 * Since 0.3.
 */
ahoy_status ahoy_kv_get(ahoy_kv kv, const void *key, size_t key_bytes, ahoy_kv_fn on_done,
                        void *user);

/**
 * Reads a key, and waits for it.
 *
 * @param value        receives the value, at most `capacity` - 1 bytes of it, and a zero byte after it; NULL if you do not
 *                     need it.
 * @param capacity     size of `value` in bytes; 0 if it is NULL.
 * @param value_bytes  receives the value's length, also when it does not fit; NULL if you do not need it.
 * @param revision     receives the revision; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_TOO_LONG: the value does not fit, or the key is too long. AHOY_ERR_DEADLOCK: inside a
 *         callback. Otherwise as `ahoy_kv_get` and its `on_done`. Since 0.3.
 */
ahoy_status ahoy_kv_get_wait(ahoy_kv kv, const void *key, size_t key_bytes, void *value,
                             size_t capacity, size_t *value_bytes, uint64_t *revision);

/**
 * Gives a key a value, whatever it had.
 *
 * @param options  NULL: the defaults.
 * @param on_done  called exactly once, with the key and its new revision. AHOY_ERR_UNKNOWN_OUTCOME: the answer is lost,
 *                 and it may have been done or not, or be done yet. AHOY_ERR_TIMEOUT: no server has taken it, and it was
 *                 not done. AHOY_ERR_AGAIN: the bucket, or the servers, are full. AHOY_ERR_DISCONNECTED,
 *                 _NO_STORE (the bucket was deleted), _TOO_LONG, _UNSUPPORTED, _FAILED, _STOPPED, _SYSTEM, _MEMORY: it
 *                 was not done, as far as the answer is from a server; AHOY_ERR_STOPPED may also be an answer lost.
 * @param user     passed to `on_done`.
 * @return AHOY_OK: `on_done` will be called. On an error it is not, and nothing is done: AHOY_ERR_INVALID,
 *         AHOY_ERR_TOO_LONG: the key, or the value. AHOY_ERR_UNSUPPORTED: `ttl_ms`, and the bucket's servers are
 *         older than NATS 2.11, or its history is more than 1. AHOY_ERR_DISCONNECTED. AHOY_ERR_AGAIN: 65,536 calls are
 *         under way. AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _MEMORY.
 *
 * Since 0.3.
 */
ahoy_status ahoy_kv_put(ahoy_kv kv, const void *key, size_t key_bytes, const void *value,
                        size_t value_bytes, const ahoy_kv_put_options *options, ahoy_kv_fn on_done,
                        void *user);

/**
 * As `ahoy_kv_put`, and waits for it.
 *
 * @param revision  receives the new revision; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_put` and its `on_done`. Since 0.3.
 */
ahoy_status ahoy_kv_put_wait(ahoy_kv kv, const void *key, size_t key_bytes, const void *value,
                             size_t value_bytes, const ahoy_kv_put_options *options,
                             uint64_t *revision);

/**
 * As `ahoy_kv_put`, but only if there is no such key.
 *
 * @param on_done  AHOY_ERR_KEY_EXISTS: there is one.
 * @return as `ahoy_kv_put`. Since 0.3.
 */
ahoy_status ahoy_kv_create(ahoy_kv kv, const void *key, size_t key_bytes, const void *value,
                           size_t value_bytes, const ahoy_kv_put_options *options,
                           ahoy_kv_fn on_done, void *user);

/**
 * As `ahoy_kv_create`, and waits for it.
 *
 * @param revision  receives the new revision; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_create` and its `on_done`. Since 0.3.
 */
ahoy_status ahoy_kv_create_wait(ahoy_kv kv, const void *key, size_t key_bytes, const void *value,
                                size_t value_bytes, const ahoy_kv_put_options *options,
                                uint64_t *revision);

/**
 * As `ahoy_kv_put`, but only if the key has this revision.
 *
 * @param revision  as a read, a change or a watch has told it, that of a deletion, too; not 0.
 * @param on_done   AHOY_ERR_REVISION: it has another, or there is no such key.
 * @return as `ahoy_kv_put`; AHOY_ERR_INVALID: the revision is 0. Since 0.3.
 */
ahoy_status ahoy_kv_update(ahoy_kv kv, const void *key, size_t key_bytes, const void *value,
                           size_t value_bytes, uint64_t revision,
                           const ahoy_kv_put_options *options, ahoy_kv_fn on_done, void *user);

/**
 * As `ahoy_kv_update`, and waits for it.
 *
 * @param updated  receives the new revision; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_update` and its `on_done`. Since 0.3.
 */
ahoy_status ahoy_kv_update_wait(ahoy_kv kv, const void *key, size_t key_bytes, const void *value,
                                size_t value_bytes, uint64_t revision,
                                const ahoy_kv_put_options *options, uint64_t *updated);

/**
 * Deletes a key.
 *
 * @param revision  only if the key has this one; 0: whatever it has, also if there is none.
 * @param on_done   called exactly once, with the revision of the deletion, which `ahoy_kv_update` takes: who else
 *                  wants to write where a key was deleted uses `ahoy_kv_create`. AHOY_ERR_REVISION: the key has
 *                  another, or there is none. Otherwise as that of `ahoy_kv_put`.
 * @return as `ahoy_kv_put`. Since 0.3.
 */
ahoy_status ahoy_kv_delete(ahoy_kv kv, const void *key, size_t key_bytes, uint64_t revision,
                           ahoy_kv_fn on_done, void *user);

/**
 * As `ahoy_kv_delete`, and waits for it.
 *
 * @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_delete` and its `on_done`. Since 0.3.
 */
ahoy_status ahoy_kv_delete_wait(ahoy_kv kv, const void *key, size_t key_bytes, uint64_t revision);

/* ==============================================================================================
 * Keys and watches
 *
 * What a bucket holds, now; or now and from now on, whoever changes it.
 * ============================================================================================== */

/**
 * Reads all keys that begin so, with their values.
 *
 * @param prefix        what they begin with; NULL: all. `prefix_bytes` 0: a string that ends with a zero byte.
 * @param prefix_bytes  its length.
 * @param on_key        called for each key, in no order, then once with `entry` NULL: AHOY_OK: that were all. An error
 *                      (as of `ahoy_kv_get`): there may be more.
 * @param user          passed to `on_key`.
 * @return AHOY_OK: `on_key` will be called. On an error it is not: as `ahoy_kv_get`.
 *
 * A key that is there all the while is among them; one that comes or goes meanwhile may be. Since 0.3.
 */
ahoy_status ahoy_kv_keys(ahoy_kv kv, const void *prefix, size_t prefix_bytes, ahoy_kv_fn on_key,
                         void *user);

/**
 * As `ahoy_kv_keys`, and waits for the end. `on_key` is called on this thread, for each key; not for the end, which is
 * what this returns.
 *
 * @return AHOY_OK: that were all. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_get` and its
 *         `on_done`. Since 0.3.
 */
ahoy_status ahoy_kv_keys_wait(ahoy_kv kv, const void *prefix, size_t prefix_bytes,
                              ahoy_kv_fn on_key, void *user);

/**
 * Watches the keys that begin so: first what there is, then a call with `entry` NULL, then each change.
 *
 * @param prefix        what they begin with; NULL: all. `prefix_bytes` 0: a string that ends with a zero byte.
 * @param prefix_bytes  its length.
 * @param on_change     called with AHOY_OK and an entry, or NULL, once, when all that was there has been told.
 * @param user          passed to `on_change`.
 * @param on_free       called exactly once with `user` when the watch is over: `ahoy_kv_unwatch`, `ahoy_kv_close`, or
 *                      the server has stopped. NULL: nothing to free.
 * @param watch         receives the handle, before `on_change` is called; NULL if you do not need it.
 * @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG: the prefix.
 *         AHOY_ERR_STALE, _STOPPED, _NULL (`on_change`), _AGAIN, _MEMORY.
 *
 * A watch outlives the loss of a server, and of the link, and tells what has changed meanwhile: of each key its last
 * value comes in the end. Revisions in between may be left out, never come in another order, and never twice. Who is
 * slow is told less, not later. Changes that happen during the first part may be told in it. Since 0.3.
 */
ahoy_status ahoy_kv_watch(ahoy_kv kv, const void *prefix, size_t prefix_bytes,
                          ahoy_kv_fn on_change, void *user, ahoy_free_fn on_free,
                          ahoy_watch *watch);

/**
 * Ends a watch. Called inside its callback, or another of the same bucket handle, it is not called again. From
 * another thread it may still be called once; its `on_free` says when it is over.
 *
 * @return AHOY_OK. AHOY_ERR_STALE: it is over already. Since 0.3.
 */
ahoy_status ahoy_kv_unwatch(ahoy_watch watch);

/* ==============================================================================================
 * Work queues
 *
 * A queue keeps jobs until somebody has done them. Any node pushes, and any node works: each job goes to one of those who work,
 * and to another one if that node dies, or does not say within `ack_ms` that it is done or goes on. So a job is done at
 * least once, and may be done twice; order is not promised. A job that was tried `tries_max` times without success goes
 * to the queue of dead jobs, which is a queue like any other. A queue is there as soon as somebody uses it.
 *
 * With `.cluster` jobs are in NATS JetStream (any NATS client may push to the subject CLUSTER.queue.QUEUE), and an
 * acknowledged job survives the crash of one server. Without, they are in memory, and end with the server.
 * ============================================================================================== */

/**
 * Something that was begun has come to its end: AHOY_OK, or why not. Runs on a worker, exactly once for each call that has
 * answered AHOY_OK. Any call is legal.
 */
typedef void (*ahoy_done_fn)(ahoy_server server, ahoy_status status, void *user);

/** How jobs are taken. Leave zero what you do not need. */
typedef struct ahoy_work_options {
    /** sizeof(ahoy_work_options). */
    size_t size;
    /** Jobs that this server has in hand at once, at most 65,536. 0: one for each worker. */
    uint32_t in_hand_max;
    /**
     * Milliseconds after which a job goes to somebody else if it has not ended and there was no
     * `ahoy_job_progress`. In a cluster those of whoever has begun last hold for all. 0: 30,000.
     */
    uint32_t ack_ms;
    /** How often a job is tried; then it is dead. What a crash interrupts is a try. 0: 5. */
    uint32_t tries_max;
    /** Servers that keep a copy of each job, at most 5. 0: three, or one where there are less than three servers. */
    uint32_t replicas;
    /** The queue of dead jobs. NULL: the queue's name with "-dead" behind it. */
    const char *dead_queue;
} ahoy_work_options;

/**
 * A job is to be done: `len` bytes at `data`, which live until this returns. `tries` says which try it is: 1 is the
 * first. End it with `ahoy_job_done`, `ahoy_job_retry` or `ahoy_job_drop`, here or later, on any thread; until then it
 * counts against `in_hand_max`. Runs on a worker; calls are spread over the workers, and overlap. Any call is legal.
 */
typedef void (*ahoy_job_fn)(ahoy_job job, const void *data, size_t len, uint32_t tries,
                            void *user);

/**
 * Jobs of a queue: those that wait; those that are in hand (or wait for their `delay_ms`); and those that wait in its queue
 * of dead jobs. They are 0 unless `status` is AHOY_OK. Runs on a worker, exactly once.
 */
typedef void (*ahoy_queue_counts_fn)(ahoy_server server, ahoy_status status, uint64_t waiting,
                                     uint64_t in_hand, uint64_t dead, void *user);

/**
 * Pushes a job. It is kept when `on_done` says AHOY_OK, and not before.
 *
 * @param queue    its name: 1 to 64 letters, digits, - and _.
 * @param data     the job: `len` bytes, which are copied. NULL if there are none.
 * @param id       what makes it this job: a second push with the same id within 2 minutes is merged with the first.
 *                 1 to 255 bytes without control characters. NULL: it has none, and two pushes are two jobs.
 * @param on_done  called when the job is kept, or is not. NULL: nobody wants to know.
 * @param user     passed to `on_done`.
 * @return AHOY_OK. On an error `on_done` is not called: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL,
 *         AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG (longer than the cluster's servers allow: 1 MiB, if they are not told
 *         otherwise), AHOY_ERR_AGAIN (65,536 jobs or 64 MiB are being pushed; or jobs that wait in memory have 256 MiB),
 *         AHOY_ERR_DISCONNECTED, AHOY_ERR_MEMORY; without a cluster AHOY_ERR_REPLICAS.
 *
 * `on_done` gets AHOY_OK; AHOY_ERR_UNKNOWN_OUTCOME: there was no answer within the cluster's `timeout_ms`, in which it was
 * tried again and again, and the job may be kept or not (push it again with its `id`, and it is not there twice);
 * AHOY_ERR_DISCONNECTED: it is certainly not kept; AHOY_ERR_AGAIN: nor is it, because the queue, or its servers, were full
 * for all that time; AHOY_ERR_NO_STORE, AHOY_ERR_REPLICAS, AHOY_ERR_TOO_LONG,
 * AHOY_ERR_FAILED (the stream is not one of ours); AHOY_ERR_STOPPED: the server has ended first, and the job may be kept
 * or not. Since 0.3.
 */
ahoy_status ahoy_queue_push(ahoy_server server, const char *queue, const void *data, size_t len,
                            const char *id, ahoy_done_fn on_done, void *user);

/**
 * Pushes a job, as `ahoy_queue_push`, and waits until it is kept.
 *
 * @return AHOY_OK: it is. Otherwise what `ahoy_queue_push` returns or tells its `on_done`; AHOY_ERR_DEADLOCK: called
 *         inside a callback. Since 0.3.
 */
ahoy_status ahoy_queue_push_wait(ahoy_server server, const char *queue, const void *data,
                                 size_t len, const char *id);

/**
 * Works on a queue: its jobs come to `handler` from here on, with those of all other nodes that do the same.
 *
 * @param queue    its name: 1 to 64 letters, digits, - and _.
 * @param options  NULL: all defaults.
 * @param handler  called for each job.
 * @param user     passed to `handler`.
 * @param on_free  called exactly once with `user` when no further call of `handler` comes: after `ahoy_work_stop`, or when
 *                 the server stops. NULL: nothing to free.
 * @param work     receives the handle, before `handler` can run; NULL if you do not need it.
 * @return AHOY_OK: also while the cluster cannot be reached; jobs come as soon as it can. On an error `user` stays the
 *         program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_SIZE, AHOY_ERR_INVALID.
 *
 * When the server stops, no further job is taken. Those in hand may end until its time to drain is over; the rest is then
 * given back, so that another node gets it at once, and their handles are stale. What keeps the cluster from keeping
 * such a queue (AHOY_ERR_NO_STORE, AHOY_ERR_REPLICAS) is logged, and is what pushes to it answer. Since 0.3.
 */
ahoy_status ahoy_queue_work(ahoy_server server, const char *queue,
                            const ahoy_work_options *options, ahoy_job_fn handler, void *user,
                            ahoy_free_fn on_free, ahoy_work *work);

/**
 * Takes no further job. Those in hand stay, and are to be ended as ever. A call of the handler that is on its way to a
 * worker is still made; `on_free` says when there is none.
 *
 * @return AHOY_OK. AHOY_ERR_STALE: it has stopped already. Since 0.3.
 */
ahoy_status ahoy_work_stop(ahoy_work work);

/**
 * A job is done: it is kept no longer. It is sent until the cluster confirms it; should that fail, the job is done again.
 *
 * @return AHOY_OK. AHOY_ERR_STALE: it has ended already, or was given back when its server stopped. Since 0.3.
 */
ahoy_status ahoy_job_done(ahoy_job job);

/**
 * A job is to be tried again, by whoever takes it then; unless that was its last try: then it is dead.
 *
 * @param delay_ms  milliseconds until then; 0: at once.
 * @return as `ahoy_job_done`. Since 0.3.
 */
ahoy_status ahoy_job_retry(ahoy_job job, uint32_t delay_ms);

/**
 * A job takes longer: its `ack_ms` begin anew.
 *
 * @return as `ahoy_job_done`. Since 0.3.
 */
ahoy_status ahoy_job_progress(ahoy_job job);

/**
 * Gives a job up: it goes to the dead jobs at once.
 *
 * @param reason  what its header Ahoy-Dead-Reason says: up to 255 bytes of UTF-8. NULL: "dropped". (A job that is
 *                so long that the servers take no headers with it has none.)
 * @return as `ahoy_job_done`. AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG: the reason is none, and the job has not ended.
 *         Since 0.3.
 */
ahoy_status ahoy_job_drop(ahoy_job job, const char *reason);

/**
 * Counts the jobs of a queue.
 *
 * @param queue      its name. One that there is not has no jobs.
 * @param on_counts  gets the counts.
 * @param user       passed to `on_counts`.
 * @return AHOY_OK. On an error `on_counts` is not called: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL,
 *         AHOY_ERR_INVALID, AHOY_ERR_DISCONNECTED.
 *
 * The counts are those of a moment, and not all of the same one. Since 0.3.
 */
ahoy_status ahoy_queue_counts(ahoy_server server, const char *queue,
                              ahoy_queue_counts_fn on_counts, void *user);

/**
 * Counts the jobs of a queue, and waits for that.
 *
 * @param waiting  receives the jobs that wait; NULL if you do not need it, as with the others.
 * @param in_hand  receives those in hand, or waiting for their `delay_ms`.
 * @param dead     receives those in its queue of dead jobs.
 * @return AHOY_OK. As `ahoy_queue_counts`; AHOY_ERR_TIMEOUT, AHOY_ERR_NO_STORE; AHOY_ERR_DEADLOCK: called inside a
 *         callback. Since 0.3.
 */
ahoy_status ahoy_queue_counts_wait(ahoy_server server, const char *queue, uint64_t *waiting,
                                   uint64_t *in_hand, uint64_t *dead);

/* ==============================================================================================
 * Outgoing connections
 *
 * `ahoy_connect` gives a server a connection that it opens itself, with the same callbacks as those it
 * accepts. `ahoy_request` is for scripts and tests: one question, one answer, no server.
 *
 * Both take one URL or several with commas between: tcp://, unix:, udp://, unixgram:, cluster+nats://,
 * cluster+tls://. They are tried in order; those after the first stand in for it. A name with several
 * addresses is tried in the order of "happy eyeballs" (RFC 8305): IPv6 and IPv4 in turn, the next one 250 ms
 * after the last if that has not answered, and the first that answers is taken.
 *
 * "cluster+nats://10.0.0.1,10.0.0.2/chat/echo" is whichever node of the cluster "chat" listens under the name
 * "echo" (.listen = "tcp://10.0.0.7:9000?name=echo"); without a name at the end, whichever listens at all. One is
 * chosen at random, anew at each connecting, so that a client moves when its node is gone. Only tcp:// listeners
 * are found so: the path of a unix: one means something on its own machine alone. With cluster+tls:// the NATS
 * servers are spoken to in TLS; the node that was found is not.
 *
 * `ahoy_connect` comes to those NATS servers with the certificates of its server's own cluster (see `ahoy_cluster_options`),
 * and with its login if the URL has none ("user:password@host", "token@host") and names only servers of that cluster.
 * `ahoy_request` has no server: it has the login in the URL, and trusts whom the system trusts.
 * ============================================================================================== */

/** How `ahoy_connect` connects. Set `size`, leave the rest zero for the defaults. */
typedef struct ahoy_connect_options {
    /** sizeof(ahoy_connect_options). */
    size_t size;
    /** The connection's user data, from its first callback on. NULL: the server's `user`. */
    void *user;
    /**
     * Called exactly once with `user`: after on_close, or when other user data takes its place; not
     * when `ahoy_connect` fails. NULL: nothing to free.
     */
    ahoy_free_fn on_free;
    /**
     * With `reconnect`: the connection is down, for this reason, and will be tried again. Runs on its worker.
     * It is not the last callback: that is on_close. May be NULL.
     */
    ahoy_close_fn on_down;
    /** AHOY_FRAMING_...; 0: the server's. (A URL may say otherwise in its query.) */
    int32_t framing;
    /**
     * Milliseconds within which one of the URLs must have answered, name resolution included; each gets its
     * share of what is left. 0: 10,000.
     */
    uint32_t connect_ms;
    /** The particulars of `framing`; NULL: none. */
    const ahoy_framing_options *framing_options;
    /**
     * Not 0: a connection that cannot be opened, or is lost, is opened again after a while, as the same
     * handle, beginning with the first URL; until the program closes it or the server stops. on_open is
     * called each time it is open. A peer that ends its side is lost: on_end is not called.
     */
    int32_t reconnect;
    /** The while is random, between 0 and `reconnect_min_ms` the first time ("full jitter"). 0: 100. */
    uint32_t reconnect_min_ms;
    /** The bound doubles each time, up to this, and begins anew when the peer has sent something. 0: 30,000. */
    uint32_t reconnect_max_ms;
    /**
     * Tries in a row that may fail before the connection is closed after all; one after which the peer said nothing
     * has failed. 0: no end.
     */
    uint32_t reconnect_tries_max;
} ahoy_connect_options;

/** How `ahoy_request` asks. Set `size`, leave the rest zero for the defaults. */
typedef struct ahoy_request_options {
    /** sizeof(ahoy_request_options). */
    size_t size;
    /** AHOY_FRAMING_..., of the question and of the answer; 0: none. (A URL may say otherwise in its query.) */
    int32_t framing;
    /** Milliseconds for all of it. 0: 10,000. */
    uint32_t timeout_ms;
    /** The particulars of `framing`; NULL: none. */
    const ahoy_framing_options *framing_options;
    /**
     * Not 0: the question may be asked twice. Then the next URL stands in also for one that has got the
     * question and breaks off before the answer.
     */
    int32_t idempotent;
    /** 0. */
    int32_t reserved;
} ahoy_request_options;

/**
 * Opens a connection to somebody who listens. Does not wait: on_open follows, or on_close with the reason.
 * The handle is good at once. What is sent before on_open is queued and goes out then. Called in a callback, the
 * connection is on the same worker.
 *
 * @param urls     one URL, or several with commas between.
 * @param options  NULL: the defaults.
 * @param conn     receives the handle, before any callback; NULL if you do not need it.
 * @return AHOY_OK. AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _ENUM, _INVALID, _URL, _PORT, _PATH_TOO_LONG.
 *         AHOY_ERR_INVALID also: the URLs differ in their framing, or streams and datagrams are mixed.
 *         AHOY_ERR_AGAIN: `connections_max` is reached. AHOY_ERR_MEMORY.
 *
 * Reasons of on_close when it could not be opened: AHOY_ERR_NAME: the name does not resolve.
 * AHOY_ERR_REFUSED: nobody listens. AHOY_ERR_UNREACHABLE: no way there. AHOY_ERR_TIMEOUT: no answer
 * within `connect_ms`. AHOY_ERR_NOT_FOUND, AHOY_ERR_PERMISSION: what the system says of a Unix path.
 * AHOY_ERR_DESCRIPTORS, AHOY_ERR_THREAD, AHOY_ERR_MEMORY: what ran out. AHOY_ERR_AGAIN: too many names
 * wait to be resolved. In a cluster: AHOY_ERR_NO_SERVICE: no node listens under the name. AHOY_ERR_DISCONNECTED:
 * none of its NATS servers answers. AHOY_ERR_CREDENTIALS, AHOY_ERR_CERTIFICATE: they do not let us in, or we do
 * not trust them. AHOY_ERR_UNSUPPORTED: this library is built without clusters. With several URLs it is the last one's. on_close comes without an on_open then.
 * Since 0.2.
 */
ahoy_status ahoy_connect(ahoy_server server, const char *urls, const ahoy_connect_options *options,
                         ahoy_conn *conn);

/**
 * Asks one question and waits for the answer: connects, sends `len` bytes as one message, reads one message,
 * closes. Without framing the answer is what one read gave.
 *
 * @param urls      one URL, or several with commas between: if one cannot be reached the next is tried.
 * @param options   NULL: the defaults.
 * @param data      the question; NULL if `len` is 0.
 * @param buffer    receives the answer, at most `capacity` - 1 bytes of it, and a zero byte after it; NULL if
 *                  you do not care.
 * @param capacity  size of `buffer` in bytes; 0 if it is NULL.
 * @param received  receives the length of the answer, without the zero byte; NULL if you do not care.
 * @return AHOY_OK. AHOY_ERR_TOO_LONG: the answer does not fit. AHOY_ERR_EOF: the peer ended without an
 *         answer. AHOY_ERR_NAME, _REFUSED, _UNREACHABLE, _RESET: the last URL's. AHOY_ERR_TIMEOUT.
 *         In a cluster: AHOY_ERR_NO_SERVICE: nobody listens under the name, and nobody offers a service that is
 *         called so. AHOY_ERR_DISCONNECTED, _CREDENTIALS, _CERTIFICATE, _UNSUPPORTED: as with `ahoy_connect`. Of a
 *         service: AHOY_ERR_UNKNOWN_OUTCOME: its answer is lost, and it may have done what it was asked or not.
 *         AHOY_ERR_FAILED: it has answered that it failed. AHOY_ERR_AGAIN: it has too much in hand.
 *         AHOY_ERR_NULL, _SIZE, _ENUM, _INVALID, _URL, _PORT, _PATH_TOO_LONG. AHOY_ERR_DEADLOCK: inside a callback.
 *         Of a cluster (cluster+nats://…/NAME): AHOY_ERR_NO_SERVICE: no node listens under the name, and none offers such a
 *         service. AHOY_ERR_FAILED: the service has; `ahoy_last_error` is what it says. AHOY_ERR_AGAIN: it has too
 *         much in hand. AHOY_ERR_UNKNOWN_OUTCOME: it may have been called, and the answer is lost.
 *         AHOY_ERR_DISCONNECTED, AHOY_ERR_CREDENTIALS, AHOY_ERR_CERTIFICATE: of the cluster's servers.
 *
 * In a cluster the service of the name is called where no node listens under it; once more if the question is
 * `idempotent` and its answer was lost.
 *
 * Waits on the calling thread. No thread and no descriptor is left (but that of a name server that does not
 * answer, for a while). Since 0.2.
 */
ahoy_status ahoy_request(const char *urls, const ahoy_request_options *options, const void *data,
                         size_t len, void *buffer, size_t capacity, size_t *received);

/* ==============================================================================================
 * Handing over
 *
 * A restart without a refused connection: the old process gives its listening sockets to the new one,
 * which starts with them ("fd:5,fd:6"), and only then stops. c_examples/restart.c does it. (A listener that
 * systemd holds, "systemd:", survives a restart by itself.)
 * ============================================================================================== */

/**
 * Gives copies of a server's listening sockets: stream and datagram ones, in the order of the options (a udp://
 * listener has one for each worker). They
 * belong to the caller and are close-on-exec. From here on the server does not remove the files of its Unix
 * sockets: somebody else may listen there. (A start replaces a file where nobody does.)
 *
 * @param fds       receives the descriptors; NULL only if `capacity` is 0.
 * @param capacity  how many there is room for.
 * @param count     receives how many there are.
 * @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL. AHOY_ERR_TOO_LONG: there are more than `capacity`;
 *         `count` says how many, and no copy was made. AHOY_ERR_DESCRIPTORS.
 *
 * Since 0.2.
 */
ahoy_status ahoy_server_listeners(ahoy_server server, int *fds, size_t capacity, size_t *count);

/**
 * Sends copies of descriptors to the process at the other end of a connected Unix stream socket (SCM_RIGHTS).
 *
 * @param socket  the Unix socket; it stays open. May be blocking or not.
 * @param count   1 to 253.
 * @return AHOY_OK: handed to the system. AHOY_ERR_BAD_DESCRIPTOR: one of them is not open, or `socket` is none.
 *         AHOY_ERR_INVALID: `count`. AHOY_ERR_NULL, AHOY_ERR_RESET. AHOY_ERR_DEADLOCK: inside a callback.
 *
 * Waits while the socket has no room. Since 0.2.
 */
ahoy_status ahoy_descriptors_send(int socket, const int *fds, size_t count);

/**
 * Receives what `ahoy_descriptors_send` sent. The descriptors belong to the caller and are close-on-exec.
 *
 * @param fds       receives the descriptors.
 * @param capacity  how many there is room for.
 * @param count     receives how many came.
 * @return AHOY_OK. AHOY_ERR_EOF: the other end is gone. AHOY_ERR_TOO_LONG: more came than there is room for; they
 *         are closed, and `count` says how many. AHOY_ERR_INVALID: what came was not sent by
 *         `ahoy_descriptors_send`. AHOY_ERR_DESCRIPTORS: this process has no room for them.
 *         AHOY_ERR_BAD_DESCRIPTOR, AHOY_ERR_NULL, AHOY_ERR_TIMEOUT (the socket's own SO_RCVTIMEO).
 *         AHOY_ERR_DEADLOCK: inside a callback.
 *
 * Waits, as long as the socket's own timeout allows. Since 0.2.
 */
ahoy_status ahoy_descriptors_receive(int socket, int *fds, size_t capacity, size_t *count);

/* ==============================================================================================
 * Metrics
 *
 * What a server has done, as numbers (`ahoy_server_stats`) and as text for Prometheus.
 * ============================================================================================== */

/**
 * Writes everything that a server counts in Prometheus' text format (version 0.0.4): traffic, connections by
 * state, closes by reason, queues, refusals, the histogram of turn times, the driver. A handler for GET
 * /metrics sends it as it is: c_examples/metrics.c does.
 *
 * @param text      receives the text and a zero byte; NULL if `capacity` is 0, to ask for the length.
 * @param capacity  size of `text` in bytes; 16 KiB suffice.
 * @param length    receives the length, without the zero byte, also when it does not fit; NULL if you do not
 *                  care.
 * @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_TOO_LONG: `text` is too small, and unchanged. AHOY_ERR_NULL.
 *
 * Counting costs the workers no lock. Since 0.2.
 */
ahoy_status ahoy_metrics_text(ahoy_server server, char *text, size_t capacity, size_t *length);

/* ==============================================================================================
 * Log
 *
 * The library prints nothing. A program that wants to know sets a callback.
 * ============================================================================================== */

/** No messages. */
#define AHOY_LOG_OFF 0

/** Something failed that the library could not mend. */
#define AHOY_LOG_ERROR 1

/** Something is wrong that it could: a listener rests, a limit is reached. */
#define AHOY_LOG_WARN 2

/** Servers start and stop. */
#define AHOY_LOG_INFO 3

/** Connections open and close. */
#define AHOY_LOG_DEBUG 4

/** Everything. */
#define AHOY_LOG_TRACE 5

/**
 * One message for the program's log, without a newline; it lives until this returns. Runs on the thread
 * where it happened: be quick, and do not call `ahoy_log_set`. Other calls are legal.
 */
typedef void (*ahoy_log_fn)(int32_t level, const char *message, void *user);

/**
 * Sets the callback for messages of `level` and all more severe ones, for the whole process. When this
 * returns, the callback that was set before is no longer running and will not be called again.
 *
 * @param level   AHOY_LOG_OFF to AHOY_LOG_TRACE.
 * @param on_log  NULL: none.
 * @param user    passed to `on_log`.
 * @return AHOY_OK. AHOY_ERR_ENUM: no such level. AHOY_ERR_DEADLOCK: inside the log callback.
 *
 * Each place in the library writes at most ten messages of the levels error, warn and info in a second; the next
 * one after that second says how many were held back ("... (and 1234 more like it)"), and `ahoy_metrics_text`
 * counts them all.
 *
 * Since 0.1.
 */
ahoy_status ahoy_log_set(int32_t level, ahoy_log_fn on_log, void *user);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* AHOY_H */
