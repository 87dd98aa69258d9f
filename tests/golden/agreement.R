# Makes agreement.json with R: Rscript agreement.R. Made with R 4.2.2 (Debian 12: r-cran-psych 2.2.9, jsonlite).
suppressMessages({library(psych); library(jsonlite); library(survival)})
set.seed(11)
r <- list()
n <- 60
truth <- sample(1:4, n, TRUE, c(.4, .3, .2, .1))
rate <- function(p) ifelse(runif(n) < p, truth, sample(1:4, n, TRUE))
ratings <- data.frame(a=rate(.8), b=rate(.7), c=rate(.5))
r$ratings <- ratings
far <- abs(outer(1:4, 1:4, "-"))
one <- function(x, y) {
  q <- cohen.kappa(cbind(x, y)); l <- cohen.kappa(cbind(x, y), w=1 - far / 3)
  list(unweighted=c(q$kappa, q$var.kappa), quadratic=c(q$weighted.kappa, q$var.weighted),
       linear=c(l$weighted.kappa, l$var.weighted))
}
r$cohen <- list(ab=one(ratings$a, ratings$b), ac=one(ratings$a, ratings$c), bc=one(ratings$b, ratings$c))

# Shrout and Fleiss 1979, table 2
sf <- matrix(c(9,2,5,8, 6,1,3,2, 8,4,6,8, 7,1,2,6, 10,5,6,9, 6,2,4,7), ncol=4, byrow=TRUE)
i <- ICC(sf, lmer=FALSE)$results
r$shrout_fleiss <- list(icc=i$ICC, f=i$F, p=i$p, lower=i$`lower bound`, upper=i$`upper bound`)

# Carkeet 2015: exact bounds of a limit of agreement are mean + k s
r$carkeet <- lapply(c("10"=10, "17"=17, "100"=100),
  function(m) qt(c(.025, .975), m - 1, ncp=qnorm(.975) * sqrt(m)) / sqrt(m))

# counts
t33 <- matrix(c(3,1,2, 0,4,6, 5,2,1), 3, byrow=TRUE); t25 <- matrix(c(12,3,7,1,9, 4,8,2,6,11), 2, byrow=TRUE)
t44 <- matrix(c(5,0,1,2, 1,6,0,1, 0,2,7,1, 3,1,0,4), 4, byrow=TRUE)
job <- matrix(c(1,2,1,0, 3,3,6,1, 10,10,14,9, 6,7,12,11), 4)  # Agresti 2002, job satisfaction, of ?fisher.test
r$fisher <- lapply(list(t33=t33, t25=t25, t44=t44, job=job, tea=matrix(c(3, 1, 1, 3), 2)),
                   function(t) list(table=t, p=fisher.test(t, workspace=2e7)$p.value))
ch <- chisq.test(t25, correct=FALSE)
r$chisq <- list(table=t25, statistic=unname(ch$statistic), p=ch$p.value)
pt <- prop.test(c(43, 31), c(120, 131), correct=FALSE)
r$prop <- list(counts=c(43, 120, 31, 131), chisq=unname(pt$statistic), p=pt$p.value)
approval <- matrix(c(794, 86, 150, 570), 2)  # Agresti 1990, p. 350, of ?mcnemar.test
mc <- mcnemar.test(approval)
r$mcnemar <- list(table=approval, chisq=unname(mc$statistic), p=mc$p.value, exact=binom.test(86, 236)$p.value)
small <- binom.test(3, 15)$p.value
r$mcnemar_small <- list(b=3, c=12, exact=small, mid=small - dbinom(3, 15, .5))
r$binom <- list(k=61, n=100, p=binom.test(61, 100, .5)$p.value)

# cohort table
m <- 90
d <- data.frame(group=sample(c("a", "b", "c"), m, TRUE, c(.45, .35, .2)))
d$normal <- round(rnorm(m, 60 + 4 * (d$group == "b"), 9), 2)
d$skewed <- round(rexp(m, ifelse(d$group == "a", .2, .35)), 2)
d$spread <- round(rnorm(m, 10, ifelse(d$group == "a", 1, 3)), 2)
d$sex <- sample(c("f", "m"), m, TRUE); d$stage <- sample(c("I", "II", "III", "IV"), m, TRUE, c(.5, .3, .15, .05))
d$time <- round(rexp(m, .05 * ifelse(d$group == "c", 2, 1)), 1) + .1; d$dead <- rbinom(m, 1, .7)
r$cohort <- d
two <- d[d$group != "c", ]; x <- split(two$normal, two$group); y <- split(two$skewed, two$group); v <- split(two$spread, two$group)
levene <- function(val, g) {z <- abs(val - ave(val, g, FUN=median)); summary(aov(z ~ g))[[1]]$`Pr(>F)`[1]}
r$two <- list(
  welch=t.test(x$a, x$b)$p.value, student=t.test(x$a, x$b, var.equal=TRUE)$p.value,
  mannwhitney=wilcox.test(y$a, y$b, exact=FALSE)$p.value,
  f=var.test(v$a, v$b)$p.value, levene=levene(two$spread, factor(two$group)),
  shapiro=c(shapiro.test(x$a)$p.value, shapiro.test(y$a)$p.value),
  fisher=fisher.test(table(two$sex, two$group))$p.value,
  prop=prop.test(table(two$group, two$sex), correct=FALSE)$p.value,
  chisq=chisq.test(table(two$sex, two$group), correct=FALSE)$p.value,
  stage=fisher.test(table(two$stage, two$group))$p.value)
r$three <- list(
  anova=summary(aov(normal ~ group, d))[[1]]$`Pr(>F)`[1], welch=oneway.test(normal ~ group, d)$p.value,
  kruskal=kruskal.test(skewed ~ factor(group), d)$p.value, levene=levene(d$spread, factor(d$group)),
  bartlett=bartlett.test(spread ~ group, d)$p.value,
  chisq=suppressWarnings(chisq.test(table(d$sex, d$group), correct=FALSE)$p.value),
  fisher=fisher.test(table(d$stage, d$group), workspace=2e7)$p.value,
  logrank=1 - pchisq(survdiff(Surv(time, dead) ~ group, d)$chisq, 2),
  median=unname(summary(survfit(Surv(time, dead) ~ group, d, conf.type="log-log"))$table[, c("median", "0.95LCL", "0.95UCL")]))
ex <- list(a=c(1.1, 2.3, 0.4, 5.6, 3.3), b=c(2.2, 7.1, 6.4, 9.0, 8.8, 4.1)); r$exact <- wilcox.test(ex$a, ex$b)$p.value

# correlations
pb <- cor.test(as.integer(d$sex == "m"), d$normal); sp <- suppressWarnings(cor.test(d$normal, d$skewed, method="spearman", exact=FALSE))
kt <- suppressWarnings(cor.test(d$skewed, match(d$stage, c("I", "II", "III", "IV")), method="kendall", exact=FALSE))
phi <- cor.test(as.integer(d$sex == "m"), as.integer(d$stage == "I"))
r$correlation <- list(
  point_biserial=c(pb$estimate, pb$p.value, pb$conf.int), spearman=c(sp$estimate, sp$p.value),
  kendall=c(kt$estimate, kt$p.value), phi=c(phi$estimate, phi$p.value))
writeLines(toJSON(r, digits=I(17), auto_unbox=TRUE, dataframe="columns"), "agreement.json")
