# Makes evaluate.json with R: Rscript evaluate.R. Made with R 4.2.2 (Debian 12: r-cran-proc 1.18.0, rms 6.5-0, psych
# 2.2.9, boot 1.3-28; CRAN's pmsampsize 1.1.3, without which the old numbers of sample sizes stay).
suppressMessages({library(pROC); library(rms); library(psych); library(boot); library(jsonlite)})
set.seed(61)
n <- 180
x <- rnorm(n); y <- rbinom(n, 1, plogis(-0.4 + 1.1 * x))
d <- data.frame(y=y, a=round(plogis(-0.1 + 1.7 * x + rnorm(n, 0, 0.5)), 4), b=round(plogis(0.9 * x + rnorm(n)), 2),
                patient=rep(1:90, each=2), m=round(rexp(n), 3))
r <- list(cohort=d)

# ROC: two models on the same patients, and on different ones; the patients of pROC
compare <- function(y, a, b) {
  one <- roc(y, a, quiet=TRUE, direction="<"); two <- roc(y, b, quiet=TRUE, direction="<")
  t <- roc.test(one, two, method="delong", paired=TRUE, conf.level=0.95)
  set.seed(1); k <- roc.test(one, two, method="bootstrap", boot.n=10000, progress="none")
  set.seed(1); i <- ci.auc(one, method="bootstrap", boot.n=10000, progress="none")
  list(auc=c(auc(one), auc(two)), first=as.numeric(ci.auc(one)), second=as.numeric(ci.auc(two)),
       z=unname(t$statistic), p=t$p.value, interval=as.numeric(t$conf.int),
       bootstrap=c(unname(k$statistic), k$p.value), bootstrap_first=as.numeric(i))
}
r$roc <- compare(d$y, d$a, d$b)
data(aSAH); s <- aSAH$outcome == "Poor"
r$asah <- list(s100b_ndka=compare(s, aSAH$s100b, aSAH$ndka), wfns_s100b=compare(s, as.numeric(aSAH$wfns), aSAH$s100b))

# calibration: logistic recalibration, loess and lowess curves, with and without R's interpolation
for (v in c("a", "b")) {
  p <- d[[v]]; p <- pmin(pmax(p, 0.001), 0.999)
  tight <- glm.control(epsilon=1e-14, maxit=100)
  g <- glm(y ~ qlogis(p), binomial, control=tight); o <- glm(y ~ offset(qlogis(p)), binomial, control=tight)
  direct <- loess(d$y ~ p, control=loess.control(surface="direct"))
  usual <- loess(d$y ~ p)
  index <- function(f) {e <- abs(fitted(f) - p); c(mean(e), unname(quantile(e, c(0.5, 0.9))), max(e))}
  w <- val.prob(p, d$y, pl=FALSE)
  r$calibration[[v]] <- list(slope=unname(c(coef(g)[2], sqrt(vcov(g)[2, 2]))), large=unname(c(coef(o), sqrt(vcov(o)[1, 1]))),
    loess=index(direct), loess_interpolated=index(usual), at=c(0.1, 0.25, 0.5, 0.75, 0.9),
    curve=unname(predict(direct, data.frame(p=c(0.1, 0.25, 0.5, 0.75, 0.9)))),
    lowess=unname(w[c("Eavg", "E90", "Emax")]), brier=unname(w["Brier"]), r2=unname(w["R2"]))
}

# net benefit by its definition
at <- c(0.1, 0.2, 0.35, 0.5, 0.7)
r$decision <- list(at=at, model=sapply(at, function(t) mean(d$a >= t & d$y == 1) - mean(d$a >= t & d$y == 0) * t / (1 - t)),
                   all=mean(d$y) - (1 - mean(d$y)) * at / (1 - at))

# BCa: a mean, a correlation (ordinary), and the difference of means of two classes (stratified)
set.seed(2); ci <- function(f, ...) {b <- boot(d, f, R=50000, ...); c(b$t0, boot.ci(b, type="bca", L=empinf(b, type="jack"))$bca[4:5])}
r$bca <- list(mean=ci(function(x, i) mean(x$m[i])), correlation=ci(function(x, i) cor(x$a[i], x$m[i])),
              stratified=ci(function(x, i) {z <- x[i, ]; mean(z$m[z$y == 1]) - mean(z$m[z$y == 0])}, strata=d$y))

# agreement: all six ICCs with F, p and intervals, kappas, paired proportions, repeated measures
k <- 40
t <- rnorm(k, 10, 2); M <- round(cbind(t + rnorm(k, 0, 0.8), t + 0.6 + rnorm(k, 0, 0.8), t - 0.2 + rnorm(k, 0, 0.8)), 3)
i <- ICC(M, lmer=FALSE)$results
r$icc <- list(values=M, type=i$type, icc=i$ICC, f=i$F, p=i$p, lower=i$`lower bound`, upper=i$`upper bound`)
q1 <- sample(1:4, 120, TRUE, c(4, 3, 2, 1)); q2 <- ifelse(runif(120) < 0.6, q1, sample(1:4, 120, TRUE))
q3 <- ifelse(runif(120) < 0.5, q1, sample(1:4, 120, TRUE))
ck <- cohen.kappa(cbind(q1, q2))
R <- cbind(q1, q2, q3); tab <- t(apply(R, 1, function(v) table(factor(v, 1:4)))); m <- 3; N <- 120
pj <- colSums(tab) / (N * m); qj <- 1 - pj
agree <- mean((rowSums(tab^2) - m) / (m * (m - 1))); kap <- (agree - sum(pj^2)) / (1 - sum(pj^2))
v <- 2 / (sum(pj * qj)^2 * N * m * (m - 1)) * (sum(pj * qj)^2 - sum(pj * qj * (qj - pj)))
r$kappa <- list(ratings=R, cohen=c(ck$kappa, sqrt(ck$var.kappa)), cohen_interval=unname(ck$confid[1, c(1, 3)]),
  weighted=c(ck$weighted.kappa, sqrt(ck$var.weighted)), fleiss=c(kap, kap / sqrt(v), 2 * pnorm(-abs(kap / sqrt(v)))))
first <- d$a > 0.5; second <- d$b > 0.5
h <- mcnemar.test(table(first == d$y, second == d$y)); h0 <- mcnemar.test(table(first == d$y, second == d$y), correct=FALSE)
r$mcnemar <- list(corrected=unname(c(h$statistic, h$p.value)), plain=unname(c(h0$statistic, h0$p.value)),
  exact=binom.test(sum(first == d$y & second != d$y), sum((first == d$y) != (second == d$y)))$p.value)

# heterogeneity of centres (Cochran's Q, I squared; as metafor's fixed-effect model), correlations, proportions
e <- c(0.71, 0.80, 0.62, 0.77, 0.69); se <- c(0.05, 0.04, 0.06, 0.09, 0.03); w <- 1 / se^2
pooled <- sum(w * e) / sum(w); Q <- sum(w * (e - pooled)^2)
r$cochran <- list(value=e, se=se, pooled=pooled, pooled_se=sqrt(1 / sum(w)), q=Q, p=pchisq(Q, 4, lower.tail=FALSE),
                  i2=max(0, (Q - 4) / Q))
r$spearman <- list(value=unname(cor(cbind(d$a, d$b, d$m), method="spearman")[upper.tri(diag(3))]),
                   kendall=cor(d$a, d$b, method="kendall"))
r$wilson <- lapply(list(c(0, 12), c(3, 10), c(81, 90), c(40, 40)), function(v)
  c(v, as.numeric(prop.test(v[1], v[2], correct=FALSE)$conf.int)))
r$adjusted <- list(p=c(0.001, 0.02, 0.04, 0.04, 0.3), holm=p.adjust(c(0.001, 0.02, 0.04, 0.04, 0.3), "holm"),
                   bh=p.adjust(c(0.001, 0.02, 0.04, 0.04, 0.3), "BH"))
g3 <- rep(1:3, 60)
tests <- list(t.test(m ~ y, d), wilcox.test(m ~ y, d, exact=FALSE, correct=FALSE), kruskal.test(d$m, g3),
              fisher.test(table(first, d$y)), chisq.test(table(g3, d$y), correct=FALSE), shapiro.test(d$m), var.test(m ~ y, d),
              prop.test(table(first, d$y)[, 2:1], correct=FALSE))
r$tests <- list(name=c("t (Welch)", "Mann-Whitney", "Kruskal-Wallis", "Fisher", "chi-squared", "Shapiro-Wilk", "F", "two proportions"),
                p=sapply(tests, function(t) t$p.value))
# sample sizes: the examples of pmsampsize's help page, and others
if (requireNamespace("pmsampsize", quietly=TRUE)) {
  needed <- function(...) {invisible(capture.output(x <- pmsampsize::pmsampsize(...)$results_table)); unname(x[, 1])}
  r$samplesize <- list(binary=needed(type="b", csrsquared=0.288, parameters=24, prevalence=0.174),
    binary_few=needed(type="b", csrsquared=0.1, parameters=10, prevalence=0.4),
    survival=needed(type="s", csrsquared=0.051, parameters=30, rate=0.065, timepoint=2, meanfup=2.07),
    continuous=needed(type="c", rsquared=0.2, parameters=25, intercept=1.9, sd=0.6))
  capture.output(x <- pmsampsize::pmsampsize(type="b", cstatistic=0.89, parameters=24, prevalence=0.174))
  r$samplesize$r2_of_auc <- unname(x$results_table[1, 4])
} else if (file.exists("evaluate.json")) r$samplesize <- fromJSON("evaluate.json")$samplesize
writeLines(toJSON(r, digits=I(17), auto_unbox=TRUE, dataframe="columns"), "evaluate.json")
