package pgstore

import (
	"bytes"
	"cmp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/session"
)

// scanSession reads a row of columns.
func scanSession(row pgx.CollectableRow) (session.Record, error) {
	var rec session.Record
	var hash []byte
	var user zeronull.Text
	err := row.Scan(&hash, &rec.Key.Bucket, &rec.Version, &rec.Expires, &rec.Deadline, &rec.Created, &user, &rec.Data)
	if err != nil {
		return rec, err
	}
	rec.Key.Hash, rec.User = [32]byte(hash), string(user)
	rec.Expires, rec.Deadline, rec.Created = rec.Expires.UTC(), rec.Deadline.UTC(), rec.Created.UTC()
	return rec, nil
}

func scanKey(row pgx.CollectableRow) (session.Key, error) {
	var k session.Key
	var hash []byte
	if err := row.Scan(&hash, &k.Bucket); err != nil {
		return k, err
	}
	k.Hash = [32]byte(hash)
	return k, nil
}

// pageOrder is the order of the primary key.
func pageOrder(a, b session.Key) int {
	return cmp.Or(bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.Bucket, b.Bucket))
}

// arraysOf are keys as statements take several.
func arraysOf(keys []session.Key) (hashes [][]byte, buckets []int32) {
	for i := range keys {
		hashes = append(hashes, keys[i].Hash[:])
		buckets = append(buckets, keys[i].Bucket)
	}
	return hashes, buckets
}

// notNull is data as the table stores it: an empty value is not NULL.
func notNull(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
