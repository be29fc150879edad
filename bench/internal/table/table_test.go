package table

import "testing"

func TestMedianOfAnEvenNumberIsBetweenTheTwo(t *testing.T) {
	t.Parallel()
	if got := Median([]float64{4, 1, 2, 10}, func(f float64) float64 { return f }); got != 3 {
		t.Errorf("got %v, want 3", got)
	}
}

func TestMarkdownIsAligned(t *testing.T) {
	t.Parallel()
	const want = "| of  | µs |\n|-----|---:|\n| get | 12 |\n"
	if got := Markdown([][]string{{"of", "µs"}, {"get", "12"}}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
