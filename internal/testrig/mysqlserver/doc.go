// Package mysqlserver finds, installs and runs throwaway MariaDB and MySQL
// servers.
//
// A server listens on 127.0.0.1 only and belongs to the process that started it:
// see package throwaway, which starts, stops and breaks it. Its superuser root has
// a random password, because one without would let every other user of the machine
// write files as ours.
//
// MariaDB is that of the system's packages. MySQL is not in every system's: on
// Debian [Install] unpacks the package of its newest suite into the user's cache
// folder, or below /var/tmp for root, and installs nothing.
//
// Both refuse to run as root. A process of root runs its servers as the user
// mysql, or nobody where there is none.
package mysqlserver
