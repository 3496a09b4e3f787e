#!/bin/sh
# Makes self-signed certificates where there are none: /tls for pop3gw's clients,
# /imap for pop3gw as Dovecot's client. Files that are there stay as they are.
set -eu

# pair FOLDER NAMES OWNER-OF-THE-KEY
pair() {
	if [ -e "$1/tls.crt" ] || [ -e "$1/tls.key" ]; then
		return
	fi
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
		-subj "/CN=pop3gw" -addext "subjectAltName=$2" -keyout "$1/tls.key" -out "$1/tls.crt"
	chown "$3" "$1/tls.key"
	chmod 400 "$1/tls.key"
	chmod 444 "$1/tls.crt"
}

pair /tls DNS:localhost,IP:127.0.0.1 65532
pair /imap DNS:dovecot 0
